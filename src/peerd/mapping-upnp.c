/* Keeps two ports mapped by the helper: asks, waits, asks again at half of the lifetime. It owns
 * the helper's socket. A helper that dies is not started again: nothing can be started any more. */
#include "peerd/mapping-upnp.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/self.h"
#include "punch/candidate.h"

#define RENEW_MS (PORTMAP_LIFETIME_S / 2 * 1000u)
#define RETRY_MS 600000u
/* Each request ends after 10 seconds there. */
#define ANSWER_MS 12000u

static const char *const protocols[MAPPING_PORTS] = {"udp", "tcp"};

/* Answers -------------------------------------------------------------------------------------- */

static struct str word_take(struct str *rest)
{
    const char *space = memchr(rest->p, ' ', rest->n);
    struct str word = {rest->p, space ? (size_t)(space - rest->p) : rest->n};
    *rest = str_skip(*rest, word.n + 1);
    return word;
}

static int external_parse(struct str text, struct upnp_answer *a)
{
    char copy[UPNP_LINE + 1];
    if (text.n == 0 || text.n > UPNP_LINE || memchr(text.p, 0, text.n))
        return -EBADMSG;
    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    if (addr_parse(copy, &a->external) < 0 || a->external.sa.sa_family != AF_INET ||
        addr_port(&a->external) == 0 || addr_is_wildcard(&a->external))
        return -EBADMSG;
    a->state = candidate_is_public(&a->external) ? PORTMAP_MAPPED : PORTMAP_USELESS;
    return 0;
}

int upnp_answer_parse(struct str line, struct upnp_answer *ret_answer)
{
    struct upnp_answer a = {.state = PORTMAP_SILENT};
    if (line.n == 0 || line.n > UPNP_LINE)
        return -EBADMSG;
    struct str protocol = word_take(&line), verb = word_take(&line);
    while (a.which < MAPPING_PORTS && !str_eq(protocol, str_of(protocols[a.which])))
        a.which++;
    if (a.which == MAPPING_PORTS)
        return -EBADMSG;
    if (str_eq(verb, STR("removed")) && line.n == 0)
        return -ENOENT;
    if (str_eq(verb, STR("failed")))
        a.state = str_eq(line, STR("NoRouter")) ? PORTMAP_SILENT : PORTMAP_REFUSED;
    else if (!str_eq(verb, STR("mapped")) || external_parse(line, &a) < 0)
        return -EBADMSG;
    *ret_answer = a;
    return 0;
}

/* Asking --------------------------------------------------------------------------------------- */

static bool ask(struct upnp *u, const char *verb, unsigned which, uint16_t port)
{
    char line[UPNP_LINE];
    bool add = strcmp(verb, "add") == 0;
    int n = add ? snprintf(line, sizeof line, "add %s %u %u", protocols[which], port,
                           PORTMAP_LIFETIME_S)
                : snprintf(line, sizeof line, "remove %s %u", protocols[which], port);
    return u->fd >= 0 && send(u->fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
}

/* What it has said so far stays until it says something else. */
static void settle(struct upnp *u, unsigned which, const struct upnp_answer *a)
{
    struct upnp_port *p = &u->ports[which];
    p->asked_ms = 0;
    p->state = a->state;
    p->external = a->external;
    p->due_ms = clock_now_ms() + (a->external.len ? RENEW_MS : RETRY_MS);
}

static void port_run(struct upnp *u, unsigned which, uint64_t now)
{
    static const struct upnp_answer silent = {.state = PORTMAP_SILENT};
    struct upnp_port *p = &u->ports[which];
    if (p->port == 0)
        return;
    if (p->asked_ms && now - p->asked_ms >= ANSWER_MS)
        settle(u, which, &silent);
    if (p->asked_ms || now < p->due_ms)
        return;
    if (ask(u, "add", which, p->port))
        p->asked_ms = now;
    else
        settle(u, which, &silent);
}

static void run(struct upnp *u)
{
    uint64_t now = clock_now_ms(), next = UINT64_MAX;
    for (unsigned i = 0; i < MAPPING_PORTS; i++) {
        port_run(u, i, now);
        const struct upnp_port *p = &u->ports[i];
        uint64_t at = p->asked_ms ? p->asked_ms + ANSWER_MS : p->due_ms;
        if (p->port && at < next)
            next = at;
    }
    if (next != UINT64_MAX)
        loop_timer(u->loop, &u->timer, next > now ? next - now : 0);
}

static void timer_fired(struct timer *t)
{
    struct upnp *u = container_of(t, struct upnp, timer);
    run(u);
    u->changed(u);
}

static void helper_gone(struct upnp *u)
{
    log_warn("berth-upnp has ended: no UPnP any more");
    loop_unwatch(u->loop, &u->watch);
    u->fd = fd_close(u->fd);
    run(u);
}

static void ready(struct watch *w, uint32_t events)
{
    struct upnp *u = container_of(w, struct upnp, watch);
    struct upnp_answer a;
    /* One byte more than is allowed, so that a longer line is none. */
    char line[UPNP_LINE + 1];
    (void)events;
    ssize_t n = recv(u->fd, line, sizeof line, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        helper_gone(u);
    else if (upnp_answer_parse((struct str){line, (size_t)n}, &a) < 0 ||
             !u->ports[a.which].asked_ms)
        return;
    else
        settle(u, a.which, &a);
    run(u);
    u->changed(u);
}

void upnp_ask(struct upnp *u, const uint16_t ports[MAPPING_PORTS])
{
    for (unsigned i = 0; i < MAPPING_PORTS; i++) {
        if (u->ports[i].port != ports[i])
            u->ports[i] = (struct upnp_port){.port = ports[i]};
        u->ports[i].due_ms = 0;
    }
    if (u->fd >= 0)
        run(u);
    else
        for (unsigned i = 0; i < MAPPING_PORTS; i++)
            u->ports[i].state = PORTMAP_SILENT;
}

void upnp_give_back(struct upnp *u)
{
    loop_untimer(&u->timer);
    for (unsigned i = 0; i < MAPPING_PORTS; i++) {
        const struct upnp_port *p = &u->ports[i];
        /* One that is being asked for may come to be. */
        if (p->external.len || p->asked_ms)
            (void)ask(u, "remove", i, p->external.len ? addr_port(&p->external) : p->port);
        u->ports[i] = (struct upnp_port){.port = 0};
    }
}

/* The helper ----------------------------------------------------------------------------------- */

static int spawn(int helper_end)
{
    char path[4096];
    if (!self_file("berth-upnp", "berth-upnp", path, sizeof path))
        return -ENOENT;
    char program[] = "berth-upnp", option[] = "--serve";
    char *const argv[] = {program, option, NULL}, *const environment[] = {NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int r = posix_spawn_file_actions_init(&actions);
    if (r != 0)
        return -r;
    r = posix_spawn_file_actions_adddup2(&actions, helper_end, STDIN_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (r == 0)
        r = posix_spawn(&pid, path, &actions, NULL, argv, environment);
    (void)posix_spawn_file_actions_destroy(&actions);
    return -r;
}

int upnp_start(struct upnp *u)
{
    int ends[2];
    *u = (struct upnp){.fd = -EBADF, .watch.fd = -EBADF, .timer.fire = timer_fired};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    int r = spawn(ends[1]);
    (void)close(ends[1]);
    if (r < 0)
        (void)close(ends[0]);
    else
        u->fd = ends[0];
    return r;
}

int upnp_watch(struct upnp *u, struct loop *loop, void (*changed)(struct upnp *u))
{
    u->loop = loop;
    u->changed = changed;
    u->timer.fire = timer_fired;
    u->watch.ready = ready;
    return u->fd < 0 ? 0 : loop_watch(loop, &u->watch, u->fd, EPOLLIN);
}

void upnp_stop(struct upnp *u)
{
    upnp_give_back(u);
    if (u->fd >= 0)
        loop_unwatch(u->loop, &u->watch);
    u->fd = fd_close(u->fd);
}
