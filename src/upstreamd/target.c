/* The text of an address comes in; addresses to connect to go out, the ones of a name from its
 * resolver. */
#include "upstreamd/target.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

/* Names move: a container that was started anew has another address. */
#define OLD_MS 5000

/* RFC 6761 6.3: what ends in .localhost is this machine, whatever a resolver says. */
static bool is_localhost(const char *host)
{
    const char *dot = strrchr(host, '.');
    return strcmp(dot ? dot + 1 : host, "localhost") == 0;
}

static void localhost_set(struct target *t, uint16_t port)
{
    struct in_addr v4 = {htonl(INADDR_LOOPBACK)};
    t->addrs[0] = addr_make(AF_INET, &v4, port);
    t->addrs[1] = addr_make(AF_INET6, &in6addr_loopback, port);
    t->count = 2;
}

int target_parse(struct target *t, const char *text)
{
    struct target_place place;
    *t = (struct target){.resolver = -EBADF, .watch.fd = -EBADF};
    if (strlen(text) >= sizeof t->text || target_place_parse(text, &place) < 0)
        return -EINVAL;
    (void)snprintf(t->text, sizeof t->text, "%s", text);
    if (!place.is_name) {
        t->addrs[0] = place.addr;
        t->count = 1;
        return 0;
    }
    if (is_localhost(place.host)) {
        localhost_set(t, (uint16_t)strtoul(place.port, NULL, 10));
        return 0;
    }
    memcpy(t->host, place.host, sizeof t->host);
    memcpy(t->port, place.port, sizeof t->port);
    return 0;
}

static void answer_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct target *t = container_of(w, struct target, watch);
    struct addr addrs[TARGET_ADDRS_MAX];
    size_t count = 0;
    if (resolve_read(t->resolver, addrs, &count) < 0)
        return;
    t->asked = false;
    /* A name that cannot be resolved just now had addresses: better old ones than none. */
    if (count > 0) {
        memcpy(t->addrs, addrs, count * sizeof *addrs);
        t->count = count;
        t->stale = false;
    }
    t->named_ms = clock_now_ms();
    t->named(t);
}

int target_start(struct target *t, struct loop *loop, void (*named)(struct target *t))
{
    t->named = named;
    if (!t->host[0])
        return 0;
    t->resolver = resolve_start(t->host, t->port);
    if (t->resolver < 0)
        return t->resolver;
    t->watch.ready = answer_ready;
    return loop_watch(loop, &t->watch, t->resolver, EPOLLIN);
}

static void ask(struct target *t)
{
    if (t->asked || send(t->resolver, "?", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
        return;
    t->asked = true;
}

bool target_is_known(struct target *t)
{
    if (!t->host[0])
        return true;
    if (t->stale || t->named_ms == 0 || clock_now_ms() - t->named_ms > OLD_MS)
        ask(t);
    return t->count > 0 && !(t->stale && t->asked);
}

void target_doubt(struct target *t)
{
    t->stale = t->host[0] != 0;
}
