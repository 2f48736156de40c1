/* The table of verbs. Arguments are KEY=VALUE, in any order and some of them several times; text
 * in answers is JSON but for `who`. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "peerd/control.h"
#include "peerd/dial.h"
#include "peerd/forward.h"
#include "peerd/peerd.h"
#include "peerd/report.h"

/* How long `publish` waits until a server knows about it. */
#define SETTLE_MS      4000
#define SETTLE_LOOK_MS 20

/* The value of the i-th argument when it has this key. */
static const char *value_at(const struct ask *ask, size_t i, const char *key)
{
    size_t n = strlen(key);
    const char *text = ask->args[i];
    return strncmp(text, key, n) == 0 && text[n] == '=' ? text + n + 1 : NULL;
}

static const char *value(const struct ask *ask, const char *key)
{
    for (size_t i = 0; i < ask->arg_count; i++) {
        const char *found = value_at(ask, i, key);
        if (found)
            return found;
    }
    return NULL;
}

static bool is_on(const struct ask *ask, const char *key)
{
    const char *v = value(ask, key);
    return v && strcmp(v, "1") == 0;
}

/* Servers that come with a question are known from then on; those of `publish` for good. */
static int servers_take(struct ask *ask, bool keep)
{
    struct peerd *p = ask->peerd;
    for (size_t i = 0; i < ask->arg_count; i++) {
        const char *server = value_at(ask, i, "rendezvous");
        int r = server ? net_server_add(&p->net, server) : 0;
        if (r >= 0 && server && keep)
            r = state_server_add(&p->state, server);
        if (r < 0) {
            ask_fail(ask, r, "%s: %s", server,
                     r == -ENOSPC ? "too many servers" : "is no HOST:PORT");
            return r;
        }
    }
    return 0;
}

static bool target_take(struct ask *ask, struct target *ret)
{
    char trouble[FOUND_TROUBLE_MAX];
    const char *text = value(ask, "target");
    int r = text ? target_parse(text, ret, trouble, sizeof trouble) : -EINVAL;
    if (r < 0)
        ask_fail(ask, r, "%s", text ? trouble : "whom?");
    return r == 0;
}

/* KEY or KEY:NAME. */
static int allowed_parse(const char *text, const char *service, struct allowed *ret)
{
    const char *colon = strchr(text, ':');
    struct str key = {text, colon ? (size_t)(colon - text) : strlen(text)};
    struct allowed a = {.name = ""};
    if (key_parse(key, &a.key) < 0 || strlen(service) >= sizeof a.service ||
        (colon && strlen(colon + 1) >= sizeof a.name))
        return -EINVAL;
    (void)snprintf(a.name, sizeof a.name, "%s", colon ? colon + 1 : "");
    (void)snprintf(a.service, sizeof a.service, "%s", service);
    *ret = a;
    return 0;
}

/* Publishing ----------------------------------------------------------------------------------- */

struct settle {
    struct ask *ask;
    struct timer timer;
    uint64_t until_ms;
};

static void settle_forget(struct ask *ask)
{
    struct settle *s = ask->user;
    loop_untimer(&s->timer);
    free(s);
}

static bool is_settled(struct net *n)
{
    for (uint32_t i = 0; n->presence && i < n->server_count; i++) {
        struct presence_server s;
        presence_server(n->presence, i, &s);
        if (s.state == PRESENCE_REGISTERED && s.allow_known)
            return true;
    }
    return false;
}

static void settle_look(struct timer *t)
{
    struct settle *s = container_of(t, struct settle, timer);
    struct ask *ask = s->ask;
    struct peerd *p = ask->peerd;
    bool late = clock_now_ms() >= s->until_ms;
    bool done = !p->net.rebuild.at_ms && is_settled(&p->net);
    if (!done && !late) {
        loop_timer(&p->loop, t, SETTLE_LOOK_MS);
        return;
    }
    free(s);
    ask_done_consume(ask, report_published(p));
}

/* The answer comes when a server has heard of the change, or after a while without. */
static void settle_begin(struct ask *ask)
{
    struct settle *s = calloc(1, sizeof *s);
    if (!s) {
        ask_done_consume(ask, report_published(ask->peerd));
        return;
    }
    *s = (struct settle){
        .ask = ask, .timer.fire = settle_look, .until_ms = clock_now_ms() + SETTLE_MS};
    ask->user = s;
    ask->forget = settle_forget;
    loop_timer(&ask->peerd->loop, &s->timer, SETTLE_LOOK_MS);
}

static void changed(struct ask *ask)
{
    int r = peerd_changed(ask->peerd);
    if (r < 0)
        ask_fail(ask, r, "%s cannot be written: %s", ask->peerd->state.path, strerror(-r));
    else
        settle_begin(ask);
}

static int allow_all(struct ask *ask, const char *service)
{
    for (size_t i = 0; i < ask->arg_count; i++) {
        const char *text = value_at(ask, i, "allow");
        struct allowed a;
        int r = text ? allowed_parse(text, service, &a) : 0;
        if (text && r == 0)
            r = state_allow(&ask->peerd->state, &a);
        if (r < 0) {
            ask_fail(ask, r, "%s: %s", text, r == -ENOSPC ? "too many are allowed" : "is no key");
            return r;
        }
    }
    return 0;
}

static bool publication_fill(struct ask *ask, struct publication *ret)
{
    const char *service = value(ask, "service"), *to = value(ask, "to");
    const char *port = value(ask, "port");
    struct publication *old =
        service ? state_publication(&ask->peerd->state, str_of(service)) : NULL;
    struct publication p = {.proxy = is_on(ask, "proxy"), .anyone = is_on(ask, "anyone")};
    if (!service || !record_name_valid(str_of(service)) || (to && strlen(to) >= sizeof p.to))
        return false;
    (void)snprintf(p.service, sizeof p.service, "%s", service);
    (void)snprintf(p.to, sizeof p.to, "%s", to ? to : "");
    p.port = (uint16_t)(port ? strtoul(port, NULL, 10) : 0);
    if (old) {
        p.anyone |= old->anyone && !value(ask, "allow");
        p.streams = old->streams;
        p.refused = old->refused;
    }
    *ret = p;
    return true;
}

static bool publication_try(struct ask *ask, const struct publication *p)
{
    if (state_publish(&ask->peerd->state, p) < 0) {
        ask_fail(ask, -ENOSPC, "%d services are published already", STATE_PUBLICATIONS_MAX);
        return false;
    }
    if (allow_all(ask, p->service) < 0)
        return false;
    int r = source_route(p);
    if (r == 0 || r == -ENOENT || r == -ECONNREFUSED)
        return true;
    ask_fail(ask, r, "berthd does not take the route peer://%s: %s", p->service, strerror(-r));
    return false;
}

/* What could not be published is not: neither in part, nor with the next change. */
static void publication_undo(struct state *s, const struct state *before, const char *service)
{
    *s = *before;
    const struct publication *old = state_publication(s, str_of(service));
    if (old && source_route(old) < 0)
        log_warn("its route is gone service=%s", service);
}

static void all_denied(struct peerd *p)
{
    list_for_each(r, &p->remotes, struct remote, link) remote_denied(r);
}

static void publish(struct ask *ask)
{
    struct publication p;
    struct state *s = &ask->peerd->state;
    if (!publication_fill(ask, &p)) {
        ask_fail(ask, -EINVAL, "a service's name has 1 to 40 of a-z, 0-9 and inner hyphens");
        return;
    }
    if (servers_take(ask, true) < 0)
        return;
    struct state *before = malloc(sizeof *before);
    if (!before) {
        ask_fail(ask, -ENOMEM, "memory is short");
        return;
    }
    *before = *s;
    if (publication_try(ask, &p)) {
        all_denied(ask->peerd);
        changed(ask);
    } else {
        publication_undo(s, before, p.service);
    }
    free(before);
}

static struct publication *publication_wanted(struct ask *ask)
{
    const char *service = value(ask, "service");
    struct publication *p = state_publication(&ask->peerd->state, str_of(service ? service : ""));
    if (!p)
        ask_fail(ask, -ENOENT, "no service '%s' is published", service ? service : "");
    return p;
}

static void unpublish(struct ask *ask)
{
    struct publication *p = publication_wanted(ask);
    if (!p)
        return;
    source_unroute(p);
    state_unpublish(&ask->peerd->state, p);
    all_denied(ask->peerd);
    changed(ask);
}

static bool is_all(const char *service)
{
    return !service || strcmp(service, STATE_ALL) == 0;
}

static void allow(struct ask *ask)
{
    const char *service = value(ask, "service");
    bool all = is_all(service);
    struct publication *p = all ? NULL : publication_wanted(ask);
    if (!all && !p)
        return;
    if (p && is_on(ask, "anyone"))
        p->anyone = true;
    if (allow_all(ask, all ? STATE_ALL : p->service) == 0)
        changed(ask);
}

static void deny(struct ask *ask)
{
    struct state *s = &ask->peerd->state;
    const char *service = value(ask, "service"), *text = value(ask, "key");
    struct allowed a;
    bool was = false, still = false;
    if (is_on(ask, "anyone")) {
        for (size_t i = 0; i < s->publication_count; i++) {
            struct publication *p = &s->publications[i];
            bool meant = is_all(service) || strcmp(service, p->service) == 0;
            was |= meant && p->anyone;
            p->anyone &= !meant;
        }
    } else if (text && allowed_parse(text, service ? service : STATE_ALL, &a) == 0) {
        was = state_deny(s, &a.key, a.service);
        still = state_may(s, &a.key, is_all(service) ? STR("") : str_of(service));
    }
    if (!was) {
        ask_fail(ask, still ? -EPERM : -ENOENT, "%s",
                 still ? "it is still let in: it may dial everything, or anyone may"
                       : "it was not allowed");
        return;
    }
    all_denied(ask->peerd);
    changed(ask);
}

static void published(struct ask *ask)
{
    ask_done_consume(ask, report_published(ask->peerd));
}

/* Dialling ------------------------------------------------------------------------------------- */

static void dial_forgotten(struct ask *ask)
{
    dial_forget(ask->user);
}

static void dial_done(void *ctx, struct dial *d, int err, const char *sentence)
{
    struct ask *ask = ctx;
    char text[64];
    if (err < 0) {
        ask_fail(ask, err, "%s", sentence);
        return;
    }
    (void)snprintf(text, sizeof text, "{\"ms\": %llu}",
                   (unsigned long long)(clock_now_ms() - d->begun_ms));
    ask_done_consume(ask, strdup(text));
}

static uint64_t timeout_of(const struct ask *ask)
{
    const char *text = value(ask, "timeout_ms");
    uint64_t ms = text ? strtoull(text, NULL, 10) : 0;
    return ms > 0 && ms < 3600000 ? ms : DIAL_TIMEOUT_MS;
}

static void dial_ask(struct ask *ask, const struct target *t, int consumed_fd,
                     void (*done)(void *, struct dial *, int, const char *))
{
    const struct dial_host host = {ask, done};
    struct dial *d = dial_new_consume(ask->peerd, t, consumed_fd, timeout_of(ask), &host);
    if (!d) {
        ask_fail(ask, -ENOMEM, "memory is short");
        return;
    }
    ask->user = d;
    ask->forget = dial_forgotten;
    dial_go(d);
}

static void dial(struct ask *ask)
{
    struct target t;
    if (!target_take(ask, &t) || servers_take(ask, false) < 0)
        return;
    if (!*t.service || ask->fd < 0)
        ask_fail(ask, -EINVAL, "which service? NAME/SERVICE");
    else
        dial_ask(ask, &t, fd_take(&ask->fd), dial_done);
}

static void why_done(void *ctx, struct dial *d, int err, const char *sentence)
{
    struct ask *ask = ctx;
    struct remote *r = remote_find(ask->peerd, &d->target.key);
    if (r)
        path_asked(r);
    ask_done_consume(ask, report_why(ask->peerd, d, err, sentence));
}

/* With a service a connection is made, and closed when the peer has answered: our end is in the
 * question and goes with it. */
static void why(struct ask *ask)
{
    struct target t;
    int fds[2] = {-EBADF, -EBADF};
    if (!target_take(ask, &t) || servers_take(ask, false) < 0)
        return;
    if (*t.service && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        ask_fail(ask, -errno, "no socket: %s", strerror(errno));
        return;
    }
    ask->fd = fds[0];
    dial_ask(ask, &t, fds[1], why_done);
}

static void forward(struct ask *ask)
{
    struct target t;
    bool detached = is_on(ask, "detached");
    if (!target_take(ask, &t) || servers_take(ask, false) < 0)
        return;
    if (!*t.service || ask->fd < 0) {
        ask_fail(ask, -EINVAL, "which service? NAME/SERVICE");
        return;
    }
    int r = forward_start(ask, &t, value(ask, "target"), detached);
    if (r < 0)
        ask_fail(ask, r, "cannot forward: %s", strerror(-r));
    else if (detached)
        ask_done_consume(ask, NULL);
    else
        ask_say(ask, "ready");
}

static void unforward(struct ask *ask)
{
    const char *text = value(ask, "address");
    struct addr a;
    if (text && addr_parse(text, &a) == 0)
        list_for_each(f, &ask->peerd->forwards, struct forward,
                      link) if (!f->ask && addr_equal(&f->addr, &a))
        {
            forward_free(f);
            ask_done_consume(ask, NULL);
            return;
        }
    ask_fail(ask, -ENOENT, "nothing is forwarded at %s in the background", text ? text : "?");
}

/* Reading -------------------------------------------------------------------------------------- */

static void peers(struct ask *ask)
{
    ask_done_consume(ask, report_peers(ask->peerd));
}

static void network(struct ask *ask)
{
    ask_done_consume(ask, report_network(ask->peerd));
}

static void status(struct ask *ask)
{
    ask_done_consume(ask, report_status(ask->peerd));
}

static const struct incoming_seen *seen_by(const struct ask *ask)
{
    struct addr ours, theirs;
    size_t n = ask->arg_count;
    if (n < 1 || n > 2 || addr_parse(ask->args[0], &ours) < 0 ||
        (n == 2 && addr_parse(ask->args[1], &theirs) < 0))
        return NULL;
    return incoming_who(ask->peerd, &ours, n == 2 ? &theirs : NULL);
}

/* For berth_peer(), which gives both addresses of its socket, and berth_peer_at(), which has but
 * one: "KEY NAME SERVICE", the name "-" where there is none. */
static void who(struct ask *ask)
{
    char key[KEY_TEXT_MAX], text[KEY_TEXT_MAX + 128];
    const struct incoming_seen *seen = seen_by(ask);
    if (!seen) {
        ask_fail(ask, -ENOENT, "no peer has this address");
        return;
    }
    (void)snprintf(text, sizeof text, "%s %s %s", key_format(&seen->key, key),
                   *seen->name ? seen->name : "-", seen->service);
    ask_done_consume(ask, strdup(text));
}

static void halt(struct ask *ask)
{
    struct peerd *p = ask->peerd;
    ask_done_consume(ask, NULL);
    loop_stop(&p->loop);
}

struct command {
    const char *verb;
    void (*run)(struct ask *ask);
};

static const struct command commands[] = {
    {"allow", allow},
    {"deny", deny},
    {"dial", dial},
    {"forward", forward},
    {"halt", halt},
    {"network", network},
    {"peers", peers},
    {"publish", publish},
    {"published", published},
    {"status", status},
    {"unforward", unforward},
    {"unpublish", unpublish},
    {"who", who},
    {"why", why},
};

int command_run(struct ask *ask, struct str verb)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (str_eq(verb, str_of(commands[i].verb))) {
            commands[i].run(ask);
            return 0;
        }
    return -ENOENT;
}
