/* Sessions that begin before their channel is known. The remote owns the struct here, the endpoint
 * the session, the net the channel; packets come in and go out to the server of the call. */
#include "peerd/early.h"

#include <stdlib.h>

#include "peerd/peerd.h"
#include "peerd/remote.h"

/* A hello, and with the answer to it the end of the handshake and the first bytes. */
#define KEPT 3

struct early {
    uint64_t call;
    struct session *session;
    struct channel *channel;
    size_t count;
    struct {
        size_t n;
        uint8_t bytes[QUIC_PACKET_MIN];
    } kept[KEPT];
};

static struct early *early_new(struct remote *r)
{
    struct net *n = &r->peerd->net;
    struct early *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->channel = net_channel_early(n, r);
    if (!e->channel) {
        free(e);
        return NULL;
    }
    struct quic_path path = net_channel_path(n, e->channel);
    if (session_connect(n->endpoint, &r->key, &path, &e->session) < 0) {
        net_channel_close(n, e->channel);
        free(e);
        return NULL;
    }
    session_set_user(e->session, r);
    return e;
}

/* Packets that nobody has answered. */
static bool is_unanswered(const struct early *e)
{
    struct session_stats s;
    session_stat(e->session, &s);
    return s.quic.packets_in == 0;
}

static int packet_send(const struct remote *r, struct str packet)
{
    const struct early *e = r->early;
    return link_send_early(r->peerd->net.link, &e->channel->at.way, e->call, packet.p, packet.n);
}

void early_called(struct remote *r, uint64_t call, uint32_t server)
{
    if (r->session || call != r->call)
        return;
    if (!r->early)
        r->early = early_new(r);
    struct early *e = r->early;
    if (!e)
        return;
    e->call = call;
    e->channel->at.way = (struct presence_way){.server = server};
    for (size_t i = 0; i < e->count && is_unanswered(e); i++)
        if (packet_send(r, (struct str){(const char *)e->kept[i].bytes, e->kept[i].n}) < 0)
            return;
}

void early_send(struct remote *r, struct str packet)
{
    struct early *e = r->early;
    if (!e || !r->peerd->net.link)
        return;
    if (e->count < KEPT && packet.n <= sizeof e->kept[0].bytes) {
        memcpy(e->kept[e->count].bytes, packet.p, packet.n);
        e->kept[e->count++].n = packet.n;
    }
    int result = packet_send(r, packet);
    (void)result; /* lost, as any datagram may be */
}

bool early_numbered(struct remote *r, const struct presence_channel *at)
{
    struct early *e = r->early;
    struct net *n = &r->peerd->net;
    if (!e || (r->session && r->session != e->session))
        return false;
    net_channel_number(n, e->channel, at);
    for (size_t i = 0; i < e->count && is_unanswered(e); i++)
        if (link_send_data(n->link, &at->way, at->number, e->kept[i].bytes, e->kept[i].n) < 0)
            break;
    r->channel = e->channel;
    r->session = e->session;
    r->early = NULL;
    free(e);
    return true;
}

void early_drop(struct remote *r)
{
    struct early *e = r->early;
    if (!e)
        return;
    r->early = NULL;
    if (e->session && e->session != r->session) {
        session_set_user(e->session, NULL);
        session_close(e->session, "the call failed");
    }
    if (e->channel->remote == r && e->channel->early)
        net_channel_close(&r->peerd->net, e->channel);
    free(e);
}

void early_ended(struct remote *r, const struct session *s)
{
    if (!r->early || r->early->session != s)
        return;
    r->early->session = NULL;
    early_drop(r);
}
