/* Takes streams of peers: who may, for what, and how dispatch gets them. The bytes of a stream
 * begin to flow when dispatch has said that somebody takes it. */
#include "peerd/incoming.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "ipc/pair.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"
#include "wire/proxy.h"
#include "wire/streammsg.h"

static void incoming_free(struct incoming *in)
{
    (void)fd_close(in->fd);
    list_remove(&in->link);
    in->peerd->incoming_count--;
    free(in);
}

static void refuse(struct peerd *p, struct session_stream *st, struct str service,
                   enum stream_reason reason)
{
    char label[KEY_TEXT_MAX] = "?";
    struct remote *r = remote_find(p, session_stream_peer(st));
    struct publication *pub = state_publication(&p->state, service);
    if (pub)
        pub->refused++;
    log_info("stream refused peer=%s service=" STR_FMT " reason=%s",
             r ? remote_label(r, label) : label, STR_ARG(service), stream_reason_word(reason));
    session_refuse(st, reason);
}

static struct incoming *incoming_new(struct peerd *p, struct session_stream *st, struct str service)
{
    struct incoming *in = p->incoming_count < INCOMING_MAX ? calloc(1, sizeof *in) : NULL;
    if (!in)
        return NULL;
    struct remote *r = remote_find(p, session_stream_peer(st));
    in->peerd = p;
    in->stream = st;
    in->id = ++p->source.last_id;
    in->fd = -EBADF;
    in->key = *session_stream_peer(st);
    memcpy(in->service, service.p, service.n);
    if (r)
        memcpy(in->name, r->name, sizeof in->name);
    list_append(&p->incoming, &in->link);
    p->incoming_count++;
    return in;
}

static int hand_over(struct peerd *p, struct incoming *in)
{
    struct pair pair;
    struct addr from = pair_address(&in->key);
    struct addr at = addr_make(AF_INET, STREAMMSG_IP, 0);
    int r = pair_make(&from, &at, &pair);
    if (r < 0)
        return r;
    in->fd = pair.ours;
    in->ours = pair.ours_addr;
    in->theirs = pair.theirs_addr;
    return source_send_consume(&p->source, in, pair.theirs);
}

/* As many as dispatch takes at once, in their order. */
static void waiting_send(struct peerd *p)
{
    list_for_each(in, &p->incoming, struct incoming, link)
    {
        if (!source_has_room(&p->source))
            return;
        if (in->fd >= 0)
            continue;
        int r = hand_over(p, in);
        if (r == 0)
            continue;
        log_warn("stream not handed over service=%s err=%s", in->service, strerror(-r));
        refuse(p, in->stream, str_of(in->service), STREAM_UNREACHABLE);
        incoming_free(in);
    }
}

void incoming_open(struct peerd *p, struct session_stream *st, struct str service)
{
    const struct publication *pub = state_publication(&p->state, service);
    if (str_eq(service, STR(CALLBACK_SERVICE))) {
        callback_asked(p, st);
        return;
    }
    if (!pub || !state_may(&p->state, session_stream_peer(st), service)) {
        /* Who may nothing here does not learn what there is. */
        bool may_some = state_may(&p->state, session_stream_peer(st), STR(""));
        refuse(p, st, service, !pub && may_some ? STREAM_NO_SERVICE : STREAM_NOT_ALLOWED);
        return;
    }
    struct incoming *in = source_ready(&p->source) ? incoming_new(p, st, service) : NULL;
    if (in)
        waiting_send(p);
    else
        refuse(p, st, service, source_ready(&p->source) ? STREAM_BUSY : STREAM_UNREACHABLE);
}

static struct incoming *incoming_find(struct peerd *p, uint32_t id)
{
    list_for_each(in, &p->incoming, struct incoming, link) if (in->id == id) return in;
    return NULL;
}

/* The socket is new: the header fits at once. */
static void header_write(const struct incoming *in)
{
    uint8_t buf[PROXY_MAX];
    const struct proxy_tlv tlvs[] = {
        {PROXY_TLV_PEER_KEY, {(const char *)in->key.b, sizeof in->key.b}},
        {PROXY_TLV_PEER_SERVICE, str_of(in->service)},
        {PROXY_TLV_PEER_NAME, str_of(in->name)}};
    const struct proxy_header h = {
        .src = in->ours, .dst = in->theirs, .tlvs = tlvs, .tlv_count = *in->name ? 3 : 2};
    int n = proxy_encode(2, &h, buf, sizeof buf);
    if (n < 0 || send(in->fd, buf, (size_t)n, MSG_NOSIGNAL) != n)
        log_warn("PROXY header not written service=%s", in->service);
}

static void remember(struct peerd *p, const struct incoming *in)
{
    struct incoming_seen *seen = &p->source.seen[p->source.seen_next++ % INCOMING_SEEN];
    seen->ours = in->ours;
    seen->theirs = in->theirs;
    seen->key = in->key;
    memcpy(seen->name, in->name, sizeof seen->name);
    memcpy(seen->service, in->service, sizeof seen->service);
}

void incoming_answered(struct peerd *p, uint32_t id, unsigned result, bool proxy)
{
    struct incoming *in = incoming_find(p, id);
    if (!in)
        return;
    struct publication *pub = state_publication(&p->state, str_of(in->service));
    if (result != 0) {
        refuse(p, in->stream, str_of(in->service), STREAM_UNREACHABLE);
        incoming_free(in);
        waiting_send(p);
        return;
    }
    if (pub)
        pub->streams++;
    if (proxy)
        header_write(in);
    remember(p, in);
    session_take(in->stream, fd_take(&in->fd));
    incoming_free(in);
    waiting_send(p);
}

void incoming_lost(struct peerd *p)
{
    list_for_each(in, &p->incoming, struct incoming, link)
    {
        refuse(p, in->stream, str_of(in->service), STREAM_UNREACHABLE);
        incoming_free(in);
    }
}

const struct incoming_seen *incoming_who(const struct peerd *p, const struct addr *ours,
                                         const struct addr *theirs)
{
    const struct source *s = &p->source;
    size_t count = s->seen_next < INCOMING_SEEN ? s->seen_next : INCOMING_SEEN;
    for (size_t i = 0; i < count; i++) {
        const struct incoming_seen *seen = &s->seen[(s->seen_next - 1 - i) % INCOMING_SEEN];
        if (addr_equal(&seen->ours, ours) && (!theirs || addr_equal(&seen->theirs, theirs)))
            return seen;
    }
    return NULL;
}
