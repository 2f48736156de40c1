/* Names on disk: first come, the owner only, and still there afterwards. */
#include "rendezvous/names-store.h"

#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static char folder[] = "/tmp/berth-names-XXXXXX";

__attribute__((constructor)) static void prepare(void)
{
    if (sodium_init() < 0 || !mkdtemp(folder))
        abort();
}

__attribute__((destructor)) static void clean(void)
{
    const char *const left[] = {"names.db", "names.db-wal", "names.db-journal", ""};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "%s/%s", folder, left[i]);
        (void)remove(path);
    }
}

struct rig {
    struct names *names;
    struct names_store *store;
    struct outbox outbox;
};

static void rig_open(struct rig *g, size_t names_max)
{
    char trouble[256] = "";
    g->names = names_new(names_max);
    CHECK_INT(outbox_init(&g->outbox), 0);
    CHECK_INT(names_store_open(folder, g->names, &g->store, trouble, sizeof trouble), 0);
    CHECK_TEXT(trouble, "");
}

static void rig_close(struct rig *g)
{
    names_store_stop(g->store);
    names_store_free(g->store);
    outbox_done(&g->outbox);
    names_free(g->names);
}

static void post(struct rig *g, enum rdvmsg_type type, uint8_t who, const char *name)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        abort();
    job->outbox = &g->outbox;
    job->type = type;
    job->unix_s = 1900000000;
    memset(job->key, who, sizeof job->key);
    job->name_n = (uint8_t)strlen(name);
    memcpy(job->name, name, job->name_n);
    CHECK_INT(names_store_post(g->store, job), 0);
}

static struct job *wait_job(struct rig *g)
{
    struct job *job;
    while (!(job = outbox_take(&g->outbox))) {
        uint64_t count;
        struct pollfd p = {.fd = g->outbox.event_fd, .events = POLLIN};
        if (poll(&p, 1, 10000) <= 0 || read(p.fd, &count, sizeof count) < 0)
            abort();
    }
    return job;
}

static enum rdv_reason run(struct rig *g, enum rdvmsg_type type, uint8_t who, const char *name)
{
    post(g, type, who, name);
    struct job *job = wait_job(g);
    enum rdv_reason reason = job->reason;
    free(job);
    return reason;
}

static int holder(struct rig *g, const char *name)
{
    uint8_t key[RDVMSG_KEY];
    uint64_t since;
    return names_find(g->names, str_of(name), key, &since) ? key[0] : -1;
}

TEST("who comes first has the name, until it is released by its owner")
{
    struct rig g;
    rig_open(&g, 1000);
    CHECK_INT(run(&g, RDVMSG_CLAIM, 1, "home"), RDV_OK);
    CHECK_INT(run(&g, RDVMSG_CLAIM, 1, "home"), RDV_OK);
    CHECK_INT(run(&g, RDVMSG_CLAIM, 2, "home"), RDV_NAME_TAKEN);
    CHECK_INT(run(&g, RDVMSG_RELEASE, 2, "home"), RDV_NOT_OWNER);
    CHECK_INT(run(&g, RDVMSG_RELEASE, 2, "nobody"), RDV_UNKNOWN_NAME);
    CHECK_INT(holder(&g, "home"), 1);
    CHECK_INT(run(&g, RDVMSG_RELEASE, 1, "home"), RDV_OK);
    CHECK_INT(holder(&g, "home"), -1);
    CHECK_INT(run(&g, RDVMSG_CLAIM, 2, "home"), RDV_OK);
    CHECK_INT(holder(&g, "home"), 2);
    rig_close(&g);
}

TEST("names are there again after a restart")
{
    struct rig g;
    rig_open(&g, 1000);
    CHECK_INT(holder(&g, "home"), 2);
    CHECK_INT(names_count(g.names), 1);
    CHECK_INT(run(&g, RDVMSG_CLAIM, 1, "home"), RDV_NAME_TAKEN);
    rig_close(&g);
}

TEST("of many claims for one name in one batch exactly one is granted")
{
    struct rig g;
    int granted = 0;
    rig_open(&g, 1000);
    for (uint8_t who = 10; who < 60; who++)
        post(&g, RDVMSG_CLAIM, who, "wanted");
    for (int i = 0; i < 50; i++) {
        struct job *job = wait_job(&g);
        granted += job->reason == RDV_OK;
        CHECK(job->reason == RDV_OK || job->reason == RDV_NAME_TAKEN);
        free(job);
    }
    CHECK_INT(granted, 1);
    CHECK_INT(holder(&g, "wanted"), 10);
    rig_close(&g);
}

TEST("a key holds so many names, and a server")
{
    struct rig g;
    rig_open(&g, 2 + RDVMSG_NAMES_MAX + 1);
    for (int i = 0; i < RDVMSG_NAMES_MAX; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "n%02d", i);
        CHECK_INT(run(&g, RDVMSG_CLAIM, 100, name), RDV_OK);
    }
    CHECK_INT(run(&g, RDVMSG_CLAIM, 100, "more"), RDV_TOO_MANY_NAMES);
    CHECK_INT(run(&g, RDVMSG_CLAIM, 101, "last"), RDV_OK);
    CHECK_INT(run(&g, RDVMSG_CLAIM, 102, "too-late"), RDV_FULL);
    post(&g, RDVMSG_LIST, 100, "");
    struct job *job = wait_job(&g);
    CHECK_INT(job->reason, RDV_OK);
    CHECK_INT(job->held_count, RDVMSG_NAMES_MAX);
    CHECK_INT(memcmp(job->held[3], "n03", 3), 0);
    CHECK_INT(job->held_n[3], 3);
    free(job);
    rig_close(&g);
}

TEST("a second server on the same folder is refused with a sentence")
{
    struct rig g;
    char trouble[256] = "";
    struct names *other = names_new(10);
    struct names_store *store;
    rig_open(&g, 1000);
    CHECK_INT(names_store_open(folder, other, &store, trouble, sizeof trouble), -EBUSY);
    CHECK(strstr(trouble, "is in use by another server") != NULL);
    names_free(other);
    rig_close(&g);
}

TEST("after the stop no more jobs are taken")
{
    struct rig g;
    rig_open(&g, 1000);
    names_store_stop(g.store);
    struct job job = {.outbox = &g.outbox, .type = RDVMSG_LIST};
    CHECK_INT(names_store_post(g.store, &job), -EBUSY);
    names_store_free(g.store);
    outbox_done(&g.outbox);
    names_free(g.names);
}
