/* The glue: one UDP socket and the links below, presence and sessions above. Callbacks find the
 * owner and run it; nothing is decided here. */
#include "peerd/net.h"

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "keys/place.h"
#include "peerd/dial.h"
#include "peerd/early.h"
#include "peerd/incoming.h"
#include "peerd/offering.h"
#include "peerd/path.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"
#include "peerd/tcpport.h"
#include "rendezvous/server-name.h"
#include "wire/relay.h"

uint64_t net_unix_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Sessions: down ------------------------------------------------------------------------------ */

static uint64_t now_ns(void *ctx)
{
    (void)ctx;
    return clock_now_ns();
}

static void channel_send(struct net *n, const struct channel *c, struct str bytes, size_t segment)
{
    for (size_t at = 0; at < bytes.n; at += segment) {
        size_t size = bytes.n - at < segment ? bytes.n - at : segment;
        if (c->early)
            early_send(c->remote, (struct str){bytes.p + at, size});
        else if (link_send_data(n->link, &c->at.way, c->at.number, bytes.p + at, size) < 0)
            return;
    }
}

/* What a way does not take is lost, as in any network. */
static bool session_send(void *ctx, const struct quic_path *path, const void *bytes, size_t n,
                         size_t segment)
{
    struct net *net = ctx;
    struct channel *c = net_path_channel(net, path);
    if (path->id == NET_PATH_UDP)
        udp_send(&net->udp, &path->remote, bytes, n, segment);
    else if (tcpway_is_path(path->id))
        return tcpway_send(net, path->id, (struct str){bytes, n}, segment);
    else if (sockets_is_path(path->id))
        sockets_path_send(net, path, (struct str){bytes, n}, segment);
    else if (c && net->link)
        channel_send(net, c, (struct str){bytes, n}, segment);
    return true;
}

static size_t packet_max(void *ctx, const struct quic_path *path)
{
    (void)ctx;
    return path->id == NET_PATH_UDP || sockets_is_path(path->id) || tcpway_is_path(path->id)
               ? 0
               : QUIC_PACKET_MIN;
}

static void session_timer(void *ctx, uint64_t at_ns)
{
    struct net *n = ctx;
    alarm_set(&n->alarm, at_ns);
}

static void alarm_rings(struct alarm *a)
{
    struct net *n = container_of(a, struct net, alarm);
    endpoint_expire(n->endpoint);
}

/* Sessions: up -------------------------------------------------------------------------------- */

static bool may_connect(void *ctx, const struct key *peer)
{
    struct net *n = ctx;
    return remote_may_connect(n->peerd, peer);
}

static void session_has_keys(void *ctx, struct session *s)
{
    (void)ctx;
    struct remote *r = session_user(s);
    if (r && r->session == s)
        dials_flush(r);
}

static void session_is_there(void *ctx, struct session *s)
{
    struct net *n = ctx;
    remote_up(n->peerd, s);
}

static void session_gone(void *ctx, struct session *s, const char *reason)
{
    struct net *n = ctx;
    remote_down(n->peerd, s, reason);
}

static void path_proven(void *ctx, struct session *s, const struct quic_path *path, bool ok)
{
    (void)ctx;
    struct remote *r = session_user(s);
    if (r && r->session == s)
        path_answered(r, path, ok);
}

static void stream_open(void *ctx, struct session_stream *st, struct str service)
{
    struct net *n = ctx;
    incoming_open(n->peerd, st, service);
}

static void dial_answer(void *ctx, struct session *s, void *user, unsigned reason)
{
    (void)ctx;
    if (user)
        dial_answered(user, reason);
    else
        callback_answered(s);
}

static const struct session_host session_host = {.now = now_ns,
                                                 .send = session_send,
                                                 .packet_max = packet_max,
                                                 .timer = session_timer,
                                                 .may_connect = may_connect,
                                                 .keyed = session_has_keys,
                                                 .up = session_is_there,
                                                 .down = session_gone,
                                                 .path_proven = path_proven,
                                                 .open = stream_open,
                                                 .answered = dial_answer};

/* Links ---------------------------------------------------------------------------------------- */

static void link_out(void *ctx, const struct addr *to, const void *bytes, size_t n)
{
    struct net *net = ctx;
    udp_send(&net->udp, to, bytes, n, n);
    gathering_begin(&net->gathering, to);
}

static void link_message(void *ctx, const struct presence_way *way, const void *bytes, size_t n)
{
    struct net *net = ctx;
    presence_input(net->presence, way, bytes, n, clock_now_us());
    net_kick(net);
}

static void link_data(void *ctx, const struct presence_way *way, uint32_t number, const void *bytes,
                      size_t n)
{
    struct net *net = ctx;
    struct channel *c = net_channel_find(net, way, number);
    if (!c)
        c = net_channel_unnumbered(net, way);
    if (!c || !quic_is_quic(bytes, n))
        return;
    struct quic_path path = net_channel_path(net, c);
    endpoint_input(net->endpoint, &path, bytes, n, n);
}

static void link_moved(void *ctx, uint32_t server)
{
    struct net *n = ctx;
    if (n->presence)
        presence_moved(n->presence, server, clock_now_us());
    net_kick(n);
}

static void link_changed(void *ctx, uint32_t server)
{
    struct net *n = ctx;
    struct link_status s;
    if (!n->link)
        return;
    link_status(n->link, server, &s);
    log_debug("link server=%s transport=%d trouble=%s", link_server_name(n->link, server),
              s.transport, s.trouble ? s.trouble : "");
    if (s.transport == LINK_UDP)
        gathering_answers(&n->gathering, &s.addr);
}

static int link_connects(void *ctx, const struct addr *to)
{
    const struct net *n = ctx;
    return n->tcpways.port ? tcpport_connect(n->tcpways.port, to) : -EADDRNOTAVAIL;
}

static const struct link_host link_host = {.udp_send = link_out,
                                           .tcp_connect = link_connects,
                                           .message = link_message,
                                           .data = link_data,
                                           .moved = link_moved,
                                           .status = link_changed};

/* Presence ------------------------------------------------------------------------------------- */

static void presence_out(void *ctx, const struct presence_way *way, const void *bytes, size_t n)
{
    struct net *net = ctx;
    link_send(net->link, way, bytes, n);
}

static uint64_t presence_unix_ms(void *ctx)
{
    (void)ctx;
    return net_unix_ms();
}

const char *net_server_word(enum presence_state state)
{
    static const char *const words[PRESENCE_STATE_COUNT] = {"asking", "logging-in", "registered",
                                                            "waiting"};
    return words[state];
}

static void presence_state_changed(void *ctx, uint32_t server)
{
    struct net *n = ctx;
    struct presence_server s;
    if (!n->presence)
        return;
    presence_server(n->presence, server, &s);
    log_info("server name=%s state=%s reason=%s", n->servers[server], net_server_word(s.state),
             s.reason == RDV_OK ? "" : rdv_reason_word(s.reason));
    struct link_status l;
    link_status(n->link, server, &l);
    if (s.state == PRESENCE_REGISTERED && s.seen.len)
        mapping_look(&n->mapping, &l.addr, &s.seen);
    if (s.state == PRESENCE_REGISTERED && l.transport == LINK_UDP && s.seen.len) {
        gathering_seen(&n->gathering, &l.addr, &s.seen);
        tcpseen_look(&n->tcpseen, &l.addr, &s.seen);
    }
    offerings_look(n->peerd);
}

static void presence_found(void *ctx, void *user, const struct presence_found *f)
{
    (void)ctx;
    dial_found(user, f);
}

static void presence_has_called(void *ctx, void *user, uint64_t call, uint32_t server)
{
    (void)ctx;
    early_called(user, call, server);
}

static void presence_calls(void *ctx, void *user, const struct presence_calling *c)
{
    (void)ctx;
    remote_calling(user, c);
}

static void presence_answers(void *ctx, void *user, const struct presence_answered *a)
{
    (void)ctx;
    remote_answered(user, a);
}

static void presence_fails(void *ctx, void *user, uint64_t call, enum rdv_reason reason)
{
    (void)ctx;
    remote_failed(user, call, reason);
}

static void presence_invites(void *ctx, const struct presence_invite *i)
{
    struct net *n = ctx;
    remote_invited(n->peerd, i);
}

static void presence_starts(void *ctx, const struct presence_start *s)
{
    struct net *n = ctx;
    struct remote *r = remote_find(n->peerd, &s->caller);
    if (r)
        punching_start(r, PUNCHING_CALLEE, &s->seen, s->wait_us, s->hint);
}

static void presence_channel_is(void *ctx, const struct presence_channel *at, bool open)
{
    struct net *n = ctx;
    struct channel *c = net_channel_find(n, &at->way, at->number);
    if (!c)
        return;
    struct remote *r = c->remote;
    c->open = open;
    if (open)
        return;
    c->remote = NULL;
    remote_channel_lost(r, c);
}

static const struct presence_host presence_host = {.send = presence_out,
                                                   .unix_ms = presence_unix_ms,
                                                   .state = presence_state_changed,
                                                   .found = presence_found,
                                                   .called = presence_has_called,
                                                   .calling = presence_calls,
                                                   .answered = presence_answers,
                                                   .failed = presence_fails,
                                                   .invited = presence_invites,
                                                   .start = presence_starts,
                                                   .channel = presence_channel_is};

static void due_run(struct timer *t)
{
    struct net *n = container_of(t, struct net, due);
    if (!n->presence)
        return;
    uint64_t now = clock_now_us(), next = presence_tick(n->presence, now);
    if (next == PRESENCE_NEVER || t->at_ms)
        return;
    uint64_t ms = next > now ? (next - now + 999) / 1000 : 0;
    loop_timer(&n->peerd->loop, &n->due, ms ? ms : 1);
}

void net_kick(struct net *n)
{
    if (n->presence)
        loop_timer(&n->peerd->loop, &n->due, 0);
}

static void record_fill(struct net *n, struct record *r)
{
    struct state *s = &n->peerd->state;
    *r = (struct record){.service_count = s->publication_count};
    for (size_t i = 0; i < s->publication_count; i++)
        r->services[i] = (struct record_service){.name = str_of(s->publications[i].service),
                                                 .transport = RECORD_TCP,
                                                 .port = s->publications[i].port};
}

void net_publish(struct net *n)
{
    struct state *s = &n->peerd->state;
    struct key keys[PRESENCE_ALLOW_MAX];
    struct record record;
    if (!n->presence)
        return;
    for (size_t i = 0; i < s->allowed_count; i++)
        keys[i] = s->allowed[i].key;
    record_fill(n, &record);
    if (presence_record(n->presence, &record) < 0)
        log_error("more is published than a record can hold");
    if (presence_allow(n->presence, keys, s->allowed_count, state_anyone(s)) < 0)
        log_error("more peers are allowed than a server can be told");
    net_kick(n);
}

/* Servers -------------------------------------------------------------------------------------- */

static void presence_stop(struct net *n)
{
    for (size_t i = 0; i < NET_CHANNELS_MAX; i++)
        if (n->channels[i].remote)
            net_channel_close(n, &n->channels[i]);
    loop_untimer(&n->due);
    presence_free(n->presence);
    link_free(n->link);
    n->presence = NULL;
    n->link = NULL;
}

static int presence_start(struct net *n)
{
    const char *servers[PRESENCE_SERVERS_MAX];
    char path[4096];
    struct link_config config = {
        .servers = servers, .count = n->server_count, .known_servers = path};
    for (uint32_t i = 0; i < n->server_count; i++)
        servers[i] = n->servers[i];
    int r = key_place("known_servers", path, sizeof path);
    if (r == 0)
        r = link_new(&n->peerd->loop, &link_host, n, &config, &n->link);
    if (r < 0)
        return r;
    n->presence = presence_new(&presence_host, n, &n->peerd->id, n->server_count);
    if (!n->presence)
        return -ENOMEM;
    net_publish(n);
    keeping_servers_changed(&n->keeping);
    return 0;
}

static void rebuild_run(struct timer *t)
{
    struct net *n = container_of(t, struct net, rebuild);
    dials_forget_lookups(n->peerd);
    remotes_forget_calls(n->peerd);
    presence_stop(n);
    int r = presence_start(n);
    if (r < 0)
        log_error("servers not usable err=%s", strerror(-r));
    dials_retry(n->peerd);
}

/* Not at once: whoever asks for it may be called by what is to be replaced. */
int net_server_add(struct net *n, const char *server)
{
    for (uint32_t i = 0; i < n->server_count; i++)
        if (strcmp(n->servers[i], server) == 0)
            return 0;
    size_t size = strlen(server) + 1;
    struct server_name name;
    /* One that makes no sense would be the end of all of them. */
    if (size > sizeof n->servers[0] || server_name_parse(server, &name) < 0)
        return -EINVAL;
    if (n->server_count == PRESENCE_SERVERS_MAX)
        return -ENOSPC;
    memcpy(n->servers[n->server_count++], server, size);
    loop_timer(&n->peerd->loop, &n->rebuild, 0);
    return 1;
}

/* The socket ---------------------------------------------------------------------------------- */

static void datagram(struct net *n, const struct addr *from, const uint8_t *bytes, size_t size)
{
    if (n->link && link_input(n->link, from, bytes, size))
        return;
    if (!gathering_input(&n->gathering, bytes, size))
        path_input(n->peerd, from, bytes, size);
}

/* GRO joins what came from one address, whatever it is: each datagram is looked at, and those for
 * sessions go on together. */
static void udp_input(void *ctx, const struct addr *from, const uint8_t *bytes, size_t n,
                      size_t segment)
{
    struct net *net = ctx;
    struct quic_path path = {NET_PATH_UDP, *from};
    size_t run = 0;
    for (size_t at = 0; at < n; at += segment) {
        size_t size = n - at < segment ? n - at : segment;
        if (quic_is_quic(bytes + at, size))
            continue;
        if (at > run)
            endpoint_input(net->endpoint, &path, bytes + run, at - run, segment);
        datagram(net, from, bytes + at, size);
        run = at + size;
    }
    if (n > run)
        endpoint_input(net->endpoint, &path, bytes + run, n - run, segment);
}

/* The port of last time, so that a firewall's rule for it stays good; else any. */
static int socket_open(struct net *n)
{
    struct state *s = &n->peerd->state;
    n->udp = (struct udp){
        .fd = -EBADF, .loop = &n->peerd->loop, .ctx = n, .input = udp_input, .watch.fd = -EBADF};
    int r = udp_open(&n->udp, s->port);
    if (r < 0 && s->port)
        r = udp_open(&n->udp, 0);
    if (r == 0)
        s->port = n->udp.port;
    return r;
}

int net_start(struct net *n, struct peerd *p)
{
    n->peerd = p;
    n->due.fire = due_run;
    n->rebuild.fire = rebuild_run;
    n->alarm.fd = -EBADF;
    sockets_init(&n->sockets);
    targets_init(&n->targets);
    gathering_init(&n->gathering, n);
    tcpseen_init(&n->tcpseen, n);
    keeping_init(&n->keeping, n);
    int r = socket_open(n);
    tcpways_init(&n->tcpways, n);
    if (r == 0)
        tcpways_listen(&n->tcpways, n->udp.port);
    if (r == 0)
        r = alarm_init(&n->alarm, &p->loop, alarm_rings);
    if (r == 0)
        r = endpoint_new(&session_host, n, &p->loop, &p->id, &n->endpoint);
    for (size_t i = 0; r >= 0 && i < p->state.server_count; i++)
        r = net_server_add(n, p->state.servers[i]);
    return r < 0 ? r : 0;
}

void net_stop(struct net *n)
{
    endpoint_free(n->endpoint);
    n->endpoint = NULL;
    presence_stop(n);
    gathering_done(&n->gathering);
    tcpseen_done(&n->tcpseen);
    mapping_done(&n->mapping);
    keeping_done(&n->keeping);
    tcpways_done(&n->tcpways);
    alarm_done(&n->alarm);
    udp_close(&n->udp);
}

bool net_server_there(const struct net *n)
{
    for (uint32_t i = 0; n->presence && i < n->server_count; i++) {
        struct presence_server s;
        presence_server(n->presence, i, &s);
        if (s.state == PRESENCE_REGISTERED && !s.silent)
            return true;
    }
    return false;
}

bool net_udp_blocked(const struct net *n)
{
    bool tls = false;
    for (uint32_t i = 0; n->link && i < n->server_count; i++) {
        struct link_status s;
        link_status(n->link, i, &s);
        if (s.transport == LINK_UDP)
            return false;
        tls |= s.transport == LINK_TLS;
    }
    return tls;
}
