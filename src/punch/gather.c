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
    uint64_t due_us, sent_us;
    unsigned tries, index;
    enum purpose purpose;
    bool answered, refused;
};

struct gather {
    struct gather_config c;
    struct request requests[REQUESTS_MAX];
    size_t count;
    uint16_t ports[GATHER_FRESH_MAX + 1];
    uint64_t now_us; /* when it was last told */
    bool begun, opened, knows_other, done;
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

/* The fresh sockets send in the order of their numbers, so that a counting NAT is seen to count,
 * and at once, so that a NAT is known soon. */
static void ask_all(struct gather *g, uint64_t now_us)
{
    for (size_t i = 0; i < g->c.server_count && g->c.fresh != 1; i++)
        (void)request_add(g, 0, &g->c.servers[i], FOR_SAMPLE, now_us);
    for (unsigned i = 1; i <= g->c.fresh; i++) {
        struct request *r = request_add(g, i, &g->c.servers[0], FOR_SAMPLE,
                                        now_us + (uint64_t)(i - 1) * SPACING_US);
        if (!r)
            return;
        r->sample.local = g->c.local;
        addr_set_port(&r->sample.local, g->ports[i]);
    }
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

/* Silence to a CHANGE-REQUEST is an answer: two of them are enough. Fresh sockets among many repeat
 * nothing before it is known that a server is there. */
static unsigned tries_of(const struct gather *g, const struct request *r)
{
    if (r->purpose != FOR_SAMPLE)
        return 2;
    return r->sample.socket > 0 && g->c.fresh > 1 && !g->knows_other ? 1 : GATHER_TRIES;
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
    r->sent_us = now_us;
    r->due_us = now_us + ((uint64_t)GATHER_RTO_US << r->tries);
    /* The last one is waited for no longer than the first. */
    if (++r->tries == tries_of(g, r))
        r->due_us = now_us + GATHER_RTO_US;
    ret_action->n = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static bool request_is_open(const struct gather *g, const struct request *r)
{
    return !r->answered && !r->refused && r->tries < tries_of(g, r);
}

static bool request_waits(const struct gather *g, const struct request *r, uint64_t now_us)
{
    return !r->answered && !r->refused && (request_is_open(g, r) || now_us < r->due_us);
}

bool gather_poll(struct gather *g, uint64_t now_us, struct gather_action *ret_action)
{
    bool waits = false;
    g->now_us = now_us;
    if (g->done)
        return false;
    if (!g->opened && g->c.fresh > 0) {
        g->opened = true;
        *ret_action = (struct gather_action){.type = GATHER_OPEN, .count = g->c.fresh};
        return true;
    }
    if (!g->begun) {
        g->begun = true;
        ask_all(g, now_us);
    }
    for (size_t i = 0; i < g->count; i++) {
        struct request *r = &g->requests[i];
        waits = waits || request_waits(g, r, now_us);
        if (request_is_open(g, r) && r->due_us <= now_us && request_send(g, r, now_us, ret_action))
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
        if (request_waits(g, &g->requests[i], 0) && g->requests[i].due_us < next_us)
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
    g->now_us = now_us;
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
    return 0;
}

static enum nat_heard heard(const struct gather *g, enum purpose purpose)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->requests[i].purpose == purpose && !g->requests[i].refused)
            return g->requests[i].answered                        ? NAT_HEARD
                   : request_waits(g, &g->requests[i], g->now_us) ? NAT_NOT_ASKED
                                                                  : NAT_SILENT;
    return NAT_NOT_ASKED;
}

/* A lost sample of an allocation is not waited for: the others tell it as well. */
bool gather_has_samples(const struct gather *g)
{
    unsigned answered = 0, missing = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct request *r = &g->requests[i];
        bool waits = r->purpose == FOR_SAMPLE && request_waits(g, r, g->now_us);
        if (waits && r->sample.socket == 0)
            return false;
        missing += waits;
        answered += r->answered;
    }
    return answered > 0 && missing <= g->c.fresh / 4;
}

/* The samples in the order of the requests that brought them: mappings were made in that order. */
static size_t samples_sort(const struct gather *g, const struct request **ret_requests)
{
    size_t n = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct request *r = &g->requests[i];
        size_t at = n;
        if (!r->answered || r->purpose != FOR_SAMPLE)
            continue;
        for (; at > 0 && ret_requests[at - 1]->sent_us > r->sent_us; at--)
            ret_requests[at] = ret_requests[at - 1];
        ret_requests[at] = r;
        n++;
    }
    return n;
}

/* Whether a counting NAT gave port a after port b. */
static bool is_later(const struct nat *nat, const struct addr *a, const struct addr *b)
{
    int step = addr_port(a) - addr_port(b);
    return nat->delta > 0 ? step > 0 : step < 0;
}

/* Where a counting NAT stands: that is not always what was answered last. */
static struct addr newest_of(const struct nat_sample *samples, size_t n, const struct nat *nat)
{
    struct addr newest = {.len = 0};
    for (size_t i = 0; i < n; i++)
        if (newest.len == 0 || nat->allocation != NAT_ALLOCATION_SEQUENCE ||
            is_later(nat, &samples[i].mapped, &newest))
            newest = samples[i].mapped;
    return newest;
}

struct gather_result gather_result(const struct gather *g)
{
    const struct request *sorted[REQUESTS_MAX];
    struct nat_sample samples[REQUESTS_MAX];
    struct gather_result result = {.seen = {.len = 0}};
    size_t n = samples_sort(g, sorted);
    for (size_t i = 0; i < n; i++) {
        samples[i] = sorted[i]->sample;
        if (samples[i].socket == 0)
            samples[i].local = g->c.local;
        if (samples[i].socket == 0 && addr_equal(&sorted[i]->to, &g->c.servers[0]))
            result.seen = samples[i].mapped;
    }
    struct nat_filter_test test = {heard(g, FOR_OTHER_ADDRESS), heard(g, FOR_OTHER_PORT)};
    result.nat = nat_classify(samples, n, test);
    result.newest = newest_of(samples, n, &result.nat);
    return result;
}
