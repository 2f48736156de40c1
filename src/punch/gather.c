/* The STUN client of gather.h: a list of requests, each to be sent until it is answered or was sent
 * often enough. The first answer says where the server's other address is, and that adds requests.
 * Nothing is owned but the list. */
#include "punch/gather.h"

#include <errno.h>
#include <stdlib.h>

#define REQUESTS_MAX (4 + GATHER_SERVERS_MAX + GATHER_FRESH_MAX)
#define SPACING_US   2000u

/* What an answer is for. */
enum purpose { FOR_SAMPLE, FOR_OTHER_ADDRESS, FOR_OTHER_PORT };

struct request {
    struct addr to;
    struct nat_sample sample;
    uint64_t due_us;
    unsigned tries, index;
    enum purpose purpose;
    bool answered, refused;
};

struct gather {
    struct gather_config c;
    struct request requests[REQUESTS_MAX];
    size_t count;
    uint16_t ports[GATHER_FRESH_MAX + 1];
    bool opened, knows_other, done;
};

static struct request *request_add(struct gather *g, unsigned socket, const struct addr *to,
                                   enum purpose purpose, uint64_t due_us)
{
    if (g->count == REQUESTS_MAX)
        return NULL;
    struct request *r = &g->requests[g->count];
    *r = (struct request){.to = *to, .due_us = due_us, .purpose = purpose};
    r->index = (unsigned)g->count++;
    r->sample.socket = socket;
    r->sample.server = *to;
    return r;
}

struct gather *gather_new(const struct gather_config *config)
{
    if (config->server_count == 0 || config->server_count > GATHER_SERVERS_MAX ||
        config->fresh > GATHER_FRESH_MAX)
        return NULL;
    struct gather *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->c = *config;
    for (size_t i = 0; i < config->server_count; i++)
        (void)request_add(g, 0, &config->servers[i], FOR_SAMPLE, 0);
    return g;
}

void gather_free(struct gather *g)
{
    free(g);
}

/* RFC 5780 4.3 and 4.4: the other port and the other address, asked by the socket that has asked
 * the first already; and for filtering, answers from there to a socket that never sent there. */
static void ask_other(struct gather *g, const struct addr *other, uint64_t now_us)
{
    struct addr port = g->c.servers[0], address = *other;
    addr_set_port(&port, addr_port(other));
    addr_set_port(&address, addr_port(&g->c.servers[0]));
    (void)request_add(g, 0, &port, FOR_SAMPLE, now_us);
    (void)request_add(g, 0, &address, FOR_SAMPLE, now_us + SPACING_US);
    if (!g->c.filtering || g->c.fresh == 0)
        return;
    (void)request_add(g, 1, &g->c.servers[0], FOR_OTHER_ADDRESS, now_us + SPACING_US);
    (void)request_add(g, 1, &g->c.servers[0], FOR_OTHER_PORT, now_us + 2 * SPACING_US);
}

/* The fresh sockets begin when it is known that a server is there. They send in the order of their
 * numbers, so that a counting NAT is seen to count. */
static void ask_fresh(struct gather *g, uint64_t now_us)
{
    for (unsigned i = 1; i <= g->c.fresh; i++) {
        struct request *r =
            request_add(g, i, &g->c.servers[0], FOR_SAMPLE, now_us + (uint64_t)i * SPACING_US);
        if (!r)
            return;
        r->sample.local = g->c.local;
        addr_set_port(&r->sample.local, g->ports[i]);
    }
}

static void transaction_of(const struct gather *g, const struct request *r,
                           uint8_t ret_transaction[STUN_TRANSACTION])
{
    uint64_t seed = g->c.seed;
    for (size_t i = 0; i < STUN_TRANSACTION; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        ret_transaction[i] = (uint8_t)(seed >> 56);
    }
    ret_transaction[0] = (uint8_t)r->index;
}

/* Silence to a CHANGE-REQUEST is an answer: two of them are enough. */
static unsigned tries_of(const struct request *r)
{
    return r->purpose == FOR_SAMPLE ? GATHER_TRIES : 2;
}

static bool request_send(const struct gather *g, struct request *r, uint64_t now_us,
                         struct gather_action *ret_action)
{
    struct stun s = {.type = STUN_REQUEST};
    transaction_of(g, r, s.transaction);
    s.has_change = r->purpose != FOR_SAMPLE;
    s.change = r->purpose == FOR_OTHER_ADDRESS ? STUN_CHANGE_IP | STUN_CHANGE_PORT
               : r->purpose == FOR_OTHER_PORT  ? STUN_CHANGE_PORT
                                               : 0;
    *ret_action =
        (struct gather_action){.type = GATHER_SEND, .socket = r->sample.socket, .to = r->to};
    int n = stun_encode(&s, ret_action->bytes, sizeof ret_action->bytes);
    r->due_us = now_us + ((uint64_t)GATHER_RTO_US << r->tries);
    /* The last one is waited for no longer than the first. */
    if (++r->tries == tries_of(r))
        r->due_us = now_us + GATHER_RTO_US;
    ret_action->n = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static bool request_is_open(const struct request *r)
{
    return !r->answered && !r->refused && r->tries < tries_of(r);
}

static bool request_waits(const struct request *r, uint64_t now_us)
{
    return !r->answered && !r->refused && (request_is_open(r) || now_us < r->due_us);
}

bool gather_poll(struct gather *g, uint64_t now_us, struct gather_action *ret_action)
{
    bool waits = false;
    if (g->done)
        return false;
    if (!g->opened && g->c.fresh > 0) {
        g->opened = true;
        *ret_action = (struct gather_action){.type = GATHER_OPEN, .count = g->c.fresh};
        return true;
    }
    for (size_t i = 0; i < g->count; i++) {
        struct request *r = &g->requests[i];
        waits = waits || request_waits(r, now_us);
        if (request_is_open(r) && r->due_us <= now_us && request_send(g, r, now_us, ret_action))
            return true;
    }
    if (waits)
        return false;
    g->done = true;
    *ret_action = (struct gather_action){.type = GATHER_DONE};
    return true;
}

uint64_t gather_next(const struct gather *g)
{
    uint64_t next_us = UINT64_MAX;
    if (g->done)
        return next_us;
    for (size_t i = 0; i < g->count; i++)
        if (request_waits(&g->requests[i], 0) && g->requests[i].due_us < next_us)
            next_us = g->requests[i].due_us;
    return next_us == UINT64_MAX ? 0 : next_us;
}

void gather_opened(struct gather *g, unsigned socket, uint16_t local_port)
{
    if (socket >= 1 && socket <= GATHER_FRESH_MAX)
        g->ports[socket] = local_port;
}

int gather_input(struct gather *g, struct str bytes, uint64_t now_us)
{
    struct stun s;
    uint8_t transaction[STUN_TRANSACTION];
    if (stun_decode(&s, bytes.p, bytes.n) < 0)
        return -EBADMSG;
    if (s.type != STUN_SUCCESS && s.type != STUN_FAILURE)
        return -ENOENT;
    struct request *r = s.transaction[0] < g->count ? &g->requests[s.transaction[0]] : NULL;
    if (!r)
        return -ENOENT;
    transaction_of(g, r, transaction);
    if (memcmp(transaction, s.transaction, sizeof transaction) != 0)
        return -ENOENT;
    if (s.type == STUN_FAILURE)
        r->refused = true; /* a server that does not do this: not asked again */
    if (r->refused || r->answered)
        return 0;
    r->answered = true;
    r->sample.mapped = addr_unmap(&s.mapped);
    if (g->knows_other || r->sample.socket != 0)
        return 0;
    g->knows_other = true;
    if (s.other.sa.sa_family == g->c.servers[0].sa.sa_family)
        ask_other(g, &s.other, now_us);
    ask_fresh(g, now_us + 3 * SPACING_US);
    return 0;
}

static enum nat_heard heard(const struct gather *g, enum purpose purpose)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->requests[i].purpose == purpose && !g->requests[i].refused)
            return g->requests[i].answered ? NAT_HEARD : NAT_SILENT;
    return NAT_NOT_ASKED;
}

struct gather_result gather_result(const struct gather *g)
{
    struct nat_sample samples[REQUESTS_MAX];
    struct gather_result result = {.seen = {.len = 0}};
    size_t n = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct request *r = &g->requests[i];
        if (!r->answered || r->purpose != FOR_SAMPLE)
            continue;
        samples[n] = r->sample;
        if (r->sample.socket == 0)
            samples[n].local = g->c.local;
        if (r->sample.socket == 0 && addr_equal(&r->to, &g->c.servers[0]))
            result.seen = r->sample.mapped;
        result.newest = r->sample.mapped;
        n++;
    }
    struct nat_filter_test test = {heard(g, FOR_OTHER_ADDRESS), heard(g, FOR_OTHER_PORT)};
    result.nat = nat_classify(samples, n, test);
    return result;
}
