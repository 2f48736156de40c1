/* What people ask of pools. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/log.h"
#include "berthd/pool-command.h"
#include "berthd/pool.h"
#include "berthd/quota.h"

/* A definition and the environment of whoever ran `berth run`. */
#define DEFINITION_MAX (8u << 20)

static struct pool *pool_of(struct server *s, const struct command_ask *ask,
                            struct command_answer *answer, int *ret_err)
{
    const char *name = ask->arg_count > 0 ? ask->args[0] : "";
    struct pool *p = pool_find(s, name);
    *ret_err = -ENOENT;
    if (!p) {
        (void)snprintf(answer->reason, sizeof answer->reason,
                       "no application '%s' whose workers berth starts: `berth ls` shows all",
                       name);
        return NULL;
    }
    if (ask->cred->uid == 0 || ask->cred->uid == s->uid || ask->cred->uid == p->app->uid)
        return p;
    (void)snprintf(answer->reason, sizeof answer->reason, "'%s' belongs to another user", name);
    *ret_err = -EPERM;
    return NULL;
}

int command_start(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    int err;
    struct pool *p = pool_of(s, ask, answer, &err);
    if (!p)
        return err;
    pool_start(p);
    (void)dispatch_commit(s);
    return 0;
}

int command_halt(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    int err;
    struct pool *p = pool_of(s, ask, answer, &err);
    if (!p)
        return err;
    if (p->by_hand)
        pool_leave(p, "stopped by hand");
    else
        pool_stop(p, "stopped by hand");
    (void)dispatch_commit(s);
    return 0;
}

int command_restart(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    int err;
    struct pool *p = pool_of(s, ask, answer, &err);
    if (!p)
        return err;
    if (pool_active(p) == 0)
        pool_start(p);
    else
        pool_restart(p, "restarted by hand");
    (void)dispatch_commit(s);
    return 0;
}

int command_reload(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    bool dry_run = ask->arg_count > 0 && strcmp(ask->args[0], "--dry-run") == 0;
    int r = config_reload(s, dry_run, &answer->text);
    if (r < 0) {
        (void)snprintf(answer->reason, sizeof answer->reason, "%s",
                       answer->text ? answer->text : strerror(-r));
        free(answer->text);
        answer->text = NULL;
    }
    return r;
}

/* Takes the text that ends with a NUL, and the variables behind it. */
static char **environment_read(const char *at, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += at[i] == 0;
    char **all = calloc(count + 1, sizeof *all);
    for (size_t i = 0; all && i < count; i++) {
        all[i] = strdup(at);
        at += strlen(at) + 1;
    }
    return all;
}

static char *definition_take(int fd, size_t *ret_size)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 ||
        st.st_size > DEFINITION_MAX)
        return NULL;
    size_t size = (size_t)st.st_size;
    char *text = malloc(size + 1);
    if (text && pread(fd, text, size, 0) != (ssize_t)size) {
        free(text);
        return NULL;
    }
    if (text)
        text[size] = 0;
    *ret_size = size;
    return text;
}

/* What berthd does for a pool with root's rights or at everybody's cost has an end. */
static int user_limit(const struct conf_app *c, char *reason)
{
    struct rlimit files = {0}, tasks = {0};
    (void)getrlimit(RLIMIT_NOFILE, &files);
    (void)getrlimit(RLIMIT_NPROC, &tasks);
    const struct {
        const char *key;
        uint64_t value, max;
    } limits[] = {{"workers", c->workers.high, USER_WORKERS_MAX},
                  {"watch", c->watch.count, USER_WATCH_MAX},
                  {"log_size", c->log_size, USER_LOG_SIZE_MAX},
                  {"log_files", c->log_files, USER_LOG_FILES_MAX},
                  {"files_max", c->files_max, files.rlim_max},
                  {"tasks_max", c->tasks_max, tasks.rlim_max}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (limits[i].value <= limits[i].max)
            continue;
        (void)snprintf(reason, COMMAND_REASON_MAX,
                       "%s: only root has an application with more than %llu", limits[i].key,
                       (unsigned long long)limits[i].max);
        return -EPERM;
    }
    return 0;
}

/* A user who is not berthd's own gets workers of his own and nothing else. */
static int user_settle(const struct server *s, const struct ucred *cred, struct conf_app *c,
                       char *reason)
{
    char uid[16], gid[16];
    if (s->uid != 0 || cred->uid == 0)
        return 0;
    (void)snprintf(uid, sizeof uid, "%u", cred->uid);
    (void)snprintf(gid, sizeof gid, "%u", cred->gid);
    if (c->user || c->group) {
        (void)snprintf(reason, COMMAND_REASON_MAX, "only root chooses the user of an application");
        return -EPERM;
    }
    c->user = strdup(uid);
    c->group = strdup(gid);
    return c->user && c->group ? user_limit(c, reason) : -ENOMEM;
}

static int conf_take(const struct server *s, const struct command_ask *ask, const char *text,
                     struct conf **ret_conf, char *reason)
{
    struct conf_errors errors = {0};
    struct conf *conf = NULL;
    int r = conf_read_text(str_of(text), "run", &conf, &errors);
    if (r < 0 && errors.count > 0)
        (void)snprintf(reason, COMMAND_REASON_MAX, "%s: %s", errors.items[0].key,
                       errors.items[0].sentence);
    conf_errors_done(&errors);
    if (r == 0 && conf->app_count != 1)
        r = -EINVAL;
    if (r == 0)
        r = user_settle(s, ask->cred, &conf->apps[0], reason);
    if (r < 0) {
        conf_free(conf);
        return r;
    }
    *ret_conf = conf;
    return 0;
}

int command_run_pool(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    size_t size = 0;
    char *text = definition_take(*ask->fd, &size);
    struct conf *conf = NULL;
    char full[REASON_MAX] = "";
    int r = quota_check(s, ask->cred->uid, QUOTA_APPS, full);
    if (r < 0)
        (void)snprintf(answer->reason, sizeof answer->reason, "%s", full);
    else
        r = text ? conf_take(s, ask, text, &conf, answer->reason) : -EINVAL;
    if (r == 0 && pool_find(s, conf->apps[0].name)) {
        (void)snprintf(answer->reason, sizeof answer->reason,
                       "there is an application '%s' already: choose another --name",
                       conf->apps[0].name);
        conf_free(conf);
        r = -EEXIST;
    }
    struct definition *d = r == 0 ? definition_new_consume(conf) : NULL;
    struct pool *p = d ? pool_new(s, d, &d->conf->apps[0], NULL) : NULL;
    definition_unref(d);
    if (p) {
        size_t n = strlen(text) + 1;
        p->by_hand = true;
        p->app->uid = ask->cred->uid;
        p->environment = size > n ? environment_read(text + n, size - n) : NULL;
        pool_open(p);
    }
    free(text);
    if (p && p->state == POOL_BLOCKED) {
        (void)snprintf(answer->reason, sizeof answer->reason, "%s", p->reason);
        pool_leave(p, "blocked");
        return -EADDRINUSE;
    }
    return r < 0 ? r : p ? 0 : -ENOMEM;
}
