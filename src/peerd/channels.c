/* The relay channels as paths of sessions: a table of places, each with a made-up address. Channels
 * come from calls and invitations, and belong to their remotes until they are closed here. */
#include "base/clock.h"
#include "peerd/net.h"
#include "peerd/remote.h"

/* An address that is no one's: 100::/64 is for discarding (RFC 6666). */
struct quic_path net_channel_path(const struct net *n, const struct channel *c)
{
    uint8_t ip[16] = {1};
    uint32_t slot = (uint32_t)(c - n->channels);
    ip[15] = (uint8_t)slot;
    ip[14] = (uint8_t)(slot >> 8);
    return (struct quic_path){NET_PATH_CHANNEL + slot, addr_make(AF_INET6, ip, 1)};
}

struct channel *net_path_channel(struct net *n, const struct quic_path *path)
{
    if (path->id < NET_PATH_CHANNEL || path->id - NET_PATH_CHANNEL >= NET_CHANNELS_MAX)
        return NULL;
    struct channel *c = &n->channels[path->id - NET_PATH_CHANNEL];
    return c->remote ? c : NULL;
}

static bool same_way(const struct presence_way *a, const struct presence_way *b)
{
    return a->server == b->server &&
           (a->relay.len == 0 ? b->relay.len == 0 : addr_equal(&a->relay, &b->relay));
}

struct channel *net_channel_find(struct net *n, const struct presence_way *way, uint32_t number)
{
    for (size_t i = 0; i < NET_CHANNELS_MAX; i++) {
        struct channel *c = &n->channels[i];
        if (c->remote && !c->early && c->at.number == number && same_way(&c->at.way, way))
            return c;
    }
    return NULL;
}

struct channel *net_channel_unnumbered(struct net *n, const struct presence_way *way)
{
    struct channel *found = NULL;
    for (size_t i = 0; i < NET_CHANNELS_MAX; i++) {
        struct channel *c = &n->channels[i];
        if (!c->remote || !c->early || !same_way(&c->at.way, way))
            continue;
        if (found)
            return NULL;
        found = c;
    }
    return found;
}

/* The oldest of this remote's, but not that of our own call, when it has as many as it may. */
static struct channel *channel_spare(struct net *n, const struct remote *r)
{
    struct channel *oldest = NULL;
    size_t count = 0;
    for (size_t i = 0; i < NET_CHANNELS_MAX; i++) {
        struct channel *c = &n->channels[i];
        if (c->remote != r)
            continue;
        count++;
        if (c != r->channel && !c->early && (!oldest || c->since_ms < oldest->since_ms))
            oldest = c;
    }
    return count < NET_CHANNELS_REMOTE ? NULL : oldest;
}

/* NULL: all are taken. */
static struct channel *channel_free(struct net *n, const struct remote *r)
{
    struct channel *spare = channel_spare(n, r);
    if (spare)
        net_channel_close(n, spare);
    for (size_t i = 0; i < NET_CHANNELS_MAX; i++)
        if (!n->channels[i].remote)
            return &n->channels[i];
    return NULL;
}

struct channel *net_channel_add(struct net *n, const struct presence_channel *at, struct remote *r)
{
    struct channel *c = net_channel_find(n, &at->way, at->number);
    if (!c)
        c = channel_free(n, r);
    if (c)
        *c = (struct channel){.at = *at, .remote = r, .since_ms = clock_now_ms()};
    return c;
}

struct channel *net_channel_early(struct net *n, struct remote *r)
{
    struct channel *c = channel_free(n, r);
    if (c)
        *c = (struct channel){.remote = r, .early = true, .since_ms = clock_now_ms()};
    return c;
}

void net_channel_number(struct net *n, struct channel *c, const struct presence_channel *at)
{
    struct channel *old = net_channel_find(n, &at->way, at->number);
    if (old)
        old->remote = NULL;
    c->at = *at;
    c->early = false;
}

void net_channel_close(struct net *n, struct channel *c)
{
    if (n->presence && c->remote && !c->early)
        presence_channel_close(n->presence, &c->at);
    c->remote = NULL;
    net_kick(n);
}
