/* Relayed packets: each one's channel says where it goes, if its sender is the one whose channel
 * that is. The head is rewritten in place; packets that follow each other on one channel stay
 * together. What cannot be sent on at once is dropped: the peers' own protocol sends it again. */
#include "rendezvousd/thread.h"

/* A packet, or several that go to the same side of the same pair. */
struct run {
    uint32_t channel;
    uint8_t *bytes;
    size_t n, segment, packets;
};

static size_t packet_size(const struct run *r, size_t at)
{
    return r->n - at < r->segment ? r->n - at : r->segment;
}

/* The packets from the beginning of the bytes on that have one channel. */
static bool run_find(uint8_t *bytes, size_t n, size_t segment, struct run *ret_run)
{
    struct run r = {.bytes = bytes, .segment = segment};
    while (r.n < n) {
        size_t size = n - r.n < segment ? n - r.n : segment;
        struct str payload;
        uint32_t channel;
        if (relay_decode(bytes + r.n, size, &channel, &payload) < 0)
            break;
        if (r.packets > 0 && channel != r.channel)
            break;
        r.channel = channel;
        r.n += size;
        r.packets++;
    }
    *ret_run = r;
    return r.packets > 0;
}

/* Never longer than the packet that it answers, for that may have come from anybody. */
static void refuse(struct thread *th, const struct place *from, const struct run *r)
{
    struct rdvmsg m = {.type = RDVMSG_ERROR, .reason = RDV_UNKNOWN_CHANNEL, .number = r->channel};
    uint8_t out[RDVMSG_MAX];
    int n = rdvmsg_encode(&m, out, sizeof out);
    thread_add(&th->rdv.counters.refused[RDV_UNKNOWN_CHANNEL], r->packets);
    if (n > 0 && (size_t)n <= packet_size(r, 0))
        thread_send(th, from, (struct str){(const char *)out, (size_t)n});
}

static void to_connection(struct thread *th, const struct place *to, const struct run *r)
{
    size_t lost = 0;
    for (size_t at = 0; at < r->n; at += r->segment) {
        struct str packet = {(const char *)r->bytes + at, packet_size(r, at)};
        if (to->thread == th->index)
            lost += !tcp_relay(&th->tcp, to->connection, packet);
        else
            lost += mailbox_post(&th->hub->boxes[to->thread], to->connection, true, packet) < 0;
    }
    thread_add(&th->rdv.counters.relay_lost, lost);
}

static void pass(struct thread *th, const struct place *to, uint32_t channel, const struct run *r)
{
    for (size_t at = 0; at < r->n; at += r->segment)
        relay_head(r->bytes + at, channel);
    thread_add(&th->rdv.counters.relayed, r->packets);
    thread_add(&th->rdv.counters.relayed_bytes, r->n);
    if (to->connection) {
        to_connection(th, to, r);
        return;
    }
    const struct datagrams d = {to, r->bytes, r->n, r->packets > 1 ? r->segment : 0};
    udp_send(th, &d);
}

static void run_forward(struct thread *th, const struct place *from, const struct run *r)
{
    struct relay_packet p = {r->channel, r->n, *from, th->now_ms};
    struct place to;
    uint32_t channel;
    if (!shares_take(&th->shares, r->channel, r->n)) {
        thread_add(&th->rdv.counters.relay_unfair, r->packets);
        return;
    }
    switch (relay_pass(th->rdv.shared->relay, &th->credit, &p, &channel, &to)) {
    case RELAY_PASS:
        pass(th, &to, channel, r);
        return;
    case RELAY_UNKNOWN:
        refuse(th, from, r);
        return;
    case RELAY_NOWHERE:
        thread_add(&th->rdv.counters.relay_lost, r->packets);
        return;
    case RELAY_LIMITED:
        thread_add(&th->rdv.counters.relay_limited, r->packets);
        return;
    }
}

/* Its sender has not been told its channel yet. The head of all others goes into the end of this
 * one, which is longer. Of one that cannot be passed nothing is said. */
static void early_forward(struct thread *th, const struct place *from, uint64_t call,
                          struct str packet)
{
    const size_t more = RELAY_EARLY_HEAD - RELAY_HEAD;
    struct run r = {.channel = relay_early(th->rdv.shared->relay, call, from),
                    .bytes = (uint8_t *)packet.p + more,
                    .n = packet.n - more,
                    .segment = packet.n - more,
                    .packets = 1};
    if (r.channel)
        run_forward(th, from, &r);
    else
        thread_add(&th->rdv.counters.dropped, 1);
}

size_t forward(struct thread *th, const struct relayed *d)
{
    struct run r;
    uint64_t call;
    size_t at = 0, size;
    for (; at < d->n && relay_looks(d->bytes + at, d->n - at); at += size) {
        size = d->n - at < d->segment ? d->n - at : d->segment;
        if (run_find(d->bytes + at, d->n - at, d->segment, &r)) {
            run_forward(th, &d->from, &r);
            size = r.n;
        } else if (relay_early_decode(d->bytes + at, size, &call) == 0) {
            early_forward(th, &d->from, call, (struct str){(const char *)d->bytes + at, size});
        } else {
            thread_add(&th->rdv.counters.dropped, 1);
        }
    }
    return at;
}
