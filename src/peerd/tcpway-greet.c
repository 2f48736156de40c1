/* The first frame in each direction: a check of the attempt that both sides were introduced for.
 * Bytes come from a connection, what they prove goes to tcpway.c. */
#include <sodium.h>

#include "base/clock.h"
#include "base/siphash.h"
#include "peerd/tcpway-internal.h"

/* In the sequence of a probe: it is a greeting. */
#define GREETING 0x80000000u

/* A ping has the sequence 0, which stands for the next; a pong that of the ping. */
static bool greeting_send(struct tcpway *w, enum probe_type type, uint32_t sequence)
{
    struct punching *g = &w->remote->punchings[w->role];
    uint8_t frame[TCPWAY_FIRST] = {0, PROBE_SIZE}, *probe = frame + TCPWAY_PREFIX;
    struct probe p = {.type = type,
                      .from_caller = w->role == PUNCHING_CALLER,
                      .attempt = g->call,
                      .sequence = sequence ? sequence : GREETING | ++g->greetings.made};
    if (probe_encode(&p, probe, PROBE_SIZE) != PROBE_SIZE)
        return false;
    siphash128(g->theirs.secret, probe, PROBE_SIGNED, probe + PROBE_SIGNED);
    if (type == PROBE_PING)
        w->sequence = p.sequence;
    return send(w->fd, frame, sizeof frame, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof frame;
}

bool tcpway_greet(struct tcpway *w)
{
    return greeting_send(w, PROBE_PING, 0);
}

/* Whether it is the other side's, for an attempt that goes on. */
static bool is_theirs(struct remote *r, unsigned role, const uint8_t bytes[PROBE_SIZE],
                      struct probe *ret_probe)
{
    struct punching *g = &r->punchings[role];
    uint8_t tag[PROBE_TAG];
    struct probe p;
    if (probe_decode(&p, bytes, PROBE_SIZE) < 0 || !g->known || p.attempt != g->call ||
        p.from_caller == (role == PUNCHING_CALLER) || !(p.sequence & GREETING) ||
        clock_now_ms() >= g->end_ms)
        return false;
    siphash128(g->secret, bytes, PROBE_SIGNED, tag);
    if (sodium_memcmp(tag, p.tag, sizeof tag) != 0)
        return false;
    if (p.type == PROBE_PING && !greetings_take(&g->greetings, p.sequence & ~GREETING))
        return false;
    *ret_probe = p;
    return true;
}

/* Whose attempt is it? */
static bool stranger_known(struct tcpway *w, struct probe *ret_ping)
{
    struct tcpways *t = w->all;
    list_for_each(r, &t->net->peerd->remotes, struct remote, link)
    {
        for (unsigned role = 0; role < PUNCHING_ROLES; role++) {
            if (!is_theirs(r, role, w->head + TCPWAY_PREFIX, ret_ping))
                continue;
            if (ret_ping->type != PROBE_PING || tcpway_count_of(t, r) >= TCPWAYS_REMOTE_MAX)
                return false;
            w->remote = r;
            w->role = role;
            t->strange--;
            return true;
        }
    }
    return false;
}

/* Who has connected gets the pong to its ping. Where both have, with one connection (simultaneous
 * open), each gets the ping of the other, and that is enough: nothing more is said. */
static bool answer_is_good(struct tcpway *w)
{
    const uint8_t *bytes = w->head + TCPWAY_PREFIX;
    struct probe p;
    if (is_theirs(w->remote, w->role, bytes, &p))
        return p.type == PROBE_PING || p.sequence == w->sequence;
    /* Both may have called, and each connects for the call of its own. */
    return is_theirs(w->remote, PUNCHING_ROLES - 1 - w->role, bytes, &p) && p.type == PROBE_PING;
}

static void greeting_take(struct tcpway *w)
{
    struct probe p;
    bool good = w->remote ? answer_is_good(w)
                          : stranger_known(w, &p) && greeting_send(w, PROBE_PONG, p.sequence);
    if (good)
        tcpway_up(w);
    else
        tcpway_refuse(w);
}

void tcpway_greeting_read(struct tcpway *w)
{
    ssize_t n = recv(w->fd, w->head + w->head_used, sizeof w->head - w->head_used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        w->head_used += (size_t)n;
    if (n <= 0 || w->head[0] != 0 || (w->head_used > 1 && w->head[1] != PROBE_SIZE))
        tcpway_refuse(w);
    else if (w->head_used == sizeof w->head)
        greeting_take(w);
}
