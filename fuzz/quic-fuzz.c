/* Any bytes come in as packets: to an endpoint, from a few addresses and over two ways, and as what
 * a server answers to a client that connects. The first byte says how they are cut; the endpoint
 * lives on from one input to the next, as a real one does. */
#include <stdlib.h>

#include "session/session.h"

static uint64_t now_ns = 1000000000000;

static uint64_t on_now(void *ctx)
{
    (void)ctx;
    return now_ns;
}

static bool on_send(void *ctx, const struct quic_path *path, const void *bytes, size_t n,
                    size_t segment)
{
    (void)ctx, (void)path, (void)bytes, (void)n, (void)segment;
    return true;
}

static void on_timer(void *ctx, uint64_t at_ns)
{
    (void)ctx, (void)at_ns;
}

static bool on_may_connect(void *ctx, const struct key *peer)
{
    (void)ctx, (void)peer;
    return true;
}

static void on_up(void *ctx, struct session *s)
{
    (void)ctx, (void)s;
}

static void on_down(void *ctx, struct session *s, const char *reason)
{
    (void)ctx, (void)s, (void)reason;
}

static void on_path(void *ctx, struct session *s, const struct quic_path *path, bool ok)
{
    (void)ctx, (void)s, (void)path, (void)ok;
}

static void on_open(void *ctx, struct session_stream *st, struct str service)
{
    (void)ctx, (void)service;
    session_refuse(st, STREAM_NO_SERVICE);
}

static void on_answered(void *ctx, struct session *s, void *user, unsigned reason)
{
    (void)ctx, (void)s, (void)user, (void)reason;
}

static const struct session_host host = {
    .now = on_now,
    .send = on_send,
    .timer = on_timer,
    .may_connect = on_may_connect,
    .up = on_up,
    .down = on_down,
    .path_proven = on_path,
    .open = on_open,
    .answered = on_answered,
};

static struct endpoint *endpoint(struct identity *id)
{
    static struct endpoint *e;
    static struct loop loop;
    if (e)
        return e;
    if (keys_init() < 0 || loop_init(&loop) < 0)
        abort();
    identity_make(id);
    if (endpoint_new(&host, NULL, &loop, id, &e) < 0)
        abort();
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct identity id;
    struct endpoint *e = endpoint(&id);
    if (size < 2)
        return 0;
    uint8_t ip[4] = {192, 0, 2, data[0] & 7};
    struct quic_path from = {data[0] >> 3 & 1, addr_make(AF_INET, ip, 4000)};
    struct session *s = NULL;
    if (endpoint_next(e, NULL) == NULL && session_connect(e, &id.key, &from, &s) < 0)
        abort();
    size_t segment = data[0] & 0x80 ? 1200 : size - 1;
    endpoint_input(e, &from, data + 1, size - 1, segment);
    now_ns += 20000000;
    endpoint_expire(e);
    return 0;
}
