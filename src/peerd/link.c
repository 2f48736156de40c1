/* Each server is a site: UDP to all of its addresses until one answers; TLS beside it when none
 * does soon, and whichever is there first; and while on TLS, UDP is tried again from time to time.
 * Bytes from presence and sessions come in and go out by the transport in use; what arrives is told
 * from the rest by its address and handed to the host. */
#include "peerd/link.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "peerd/link-internal.h"

/* Without an answer for so long, UDP does not work; or a connection of TCP. */
#define UDP_SILENCE_MS 1500
/* Where UDP has not worked yet TLS is begun beside it after this (RFC 8305 5: 250 ms between
 * attempts; here the first question was repeated by then). It takes two round trips more, so that
 * a slow network that lets UDP through has answered before. */
#define UDP_ALONE_MS 350
/* Where it has worked before, some losses are to be expected. */
#define UDP_PATIENCE_MS 4000
#define TLS_SILENCE_MS  10000
/* On TLS, UDP is tried this often, and less when it did not last. */
#define PROBE_MS      60000
#define PROBE_MOST_MS (30 * 60000)
/* The first time, for the answer may only have been slow or lost. */
#define PROBE_SOON_MS 3000
#define LASTED_MS     120000
/* Between attempts at TLS. */
#define TLS_PAUSE_MS      2000
#define TLS_PAUSE_MOST_MS 60000
#define RESOLVE_PAUSE_MS  30000
#define RELAY_UNUSED_MS   120000

static void status_changed(struct site *p)
{
    if (p->way.relay.len == 0)
        p->link->host.status(p->link->ctx, p->way.server);
}

static void moved(struct site *p)
{
    p->waiting_ms = 0;
    loop_untimer(&p->silence);
    status_changed(p);
    p->link->host.moved(p->link->ctx, p->way.server);
}

static void trouble(struct site *p, const char *what, const char *why)
{
    (void)snprintf(p->trouble, sizeof p->trouble, "%.64s%s%.180s", what, *why ? ": " : "", why);
    status_changed(p);
}

/* UDP ------------------------------------------------------------------------------------------ */

static void udp_send(struct site *p, const void *bytes, size_t n)
{
    const struct link *l = p->link;
    if (l->no_udp)
        return;
    if (p->udp.len > 0) {
        l->host.udp_send(l->ctx, &p->udp, bytes, n);
        return;
    }
    for (size_t i = 0; i < p->count; i++)
        l->host.udp_send(l->ctx, &p->addrs[i], bytes, n);
}

static uint64_t patience_ms(const struct site *p)
{
    switch (p->transport) {
    case LINK_UDP:
        return UDP_PATIENCE_MS;
    case LINK_TLS:
        return TLS_SILENCE_MS;
    case LINK_NONE:
        break;
    }
    return p->link->no_udp ? 0 : p->udp_since_ms ? UDP_SILENCE_MS : UDP_ALONE_MS;
}

static void await(struct site *p)
{
    if (p->waiting_ms)
        return;
    p->waiting_ms = clock_now_ms();
    loop_timer(p->link->loop, &p->silence, patience_ms(p));
}

static void tls_begin(struct site *p)
{
    if (p->tls || p->transport == LINK_TLS || p->count == 0 || p->again.at_ms)
        return;
    int r = link_tls_start(p, &p->addrs[p->tls_at % p->count]);
    if (r < 0)
        site_tls_down(p, strerror(-r));
}

static void look_again(struct site *p)
{
    if (p->way.relay.len > 0 || clock_now_ms() - p->resolved_ms < RESOLVE_PAUSE_MS)
        return;
    p->resolved_ms = clock_now_ms();
    if (resolve_start(p) < 0)
        trouble(p, "cannot look up the name", "no memory");
}

static void silence_fires(struct timer *t)
{
    struct site *p = container_of(t, struct site, silence);
    p->waiting_ms = 0;
    if (p->transport == LINK_TLS) {
        link_tls_stop(p);
        site_tls_down(p, "the connection does not answer");
        return;
    }
    p->udp.len = 0;
    if (p->transport == LINK_UDP) {
        p->transport = LINK_NONE;
        status_changed(p);
    }
    look_again(p);
    tls_begin(p);
}

static void heard(struct site *p)
{
    p->waiting_ms = 0;
    loop_untimer(&p->silence);
}

static void udp_works(struct site *p, const struct addr *from)
{
    bool first = p->transport == LINK_NONE;
    p->udp = *from;
    if (!first)
        return;
    /* Before TLS was up: it is not needed. */
    link_tls_stop(p);
    loop_untimer(&p->again);
    p->tls_pause_ms = TLS_PAUSE_MS;
    p->transport = LINK_UDP;
    p->udp_since_ms = clock_now_ms();
    p->trouble[0] = '\0';
    status_changed(p);
}

/* TLS ------------------------------------------------------------------------------------------ */

static void again_fires(struct timer *t)
{
    struct site *p = container_of(t, struct site, again);
    if (p->transport == LINK_NONE)
        tls_begin(p);
    if (p->transport != LINK_TLS || p->link->no_udp)
        return;
    uint8_t buf[RDVMSG_HELLO_MIN];
    struct rdvmsg m = {.type = RDVMSG_HELLO, .pad_to = RDVMSG_HELLO_MIN};
    randombytes_buf(&m.transaction, sizeof m.transaction);
    int n = rdvmsg_encode(&m, buf, sizeof buf);
    p->probe = m.transaction;
    if (n > 0)
        udp_send(p, buf, (size_t)n);
    loop_timer(p->link->loop, &p->again, p->probe_pause_ms);
}

void site_tls_up(struct site *p)
{
    uint64_t now = clock_now_ms();
    bool lasted = p->udp_since_ms == 0 || now - p->udp_since_ms > LASTED_MS;
    uint64_t twice = 2 * p->probe_pause_ms;
    p->probe_pause_ms = lasted ? p->link->probe_ms : twice < PROBE_MOST_MS ? twice : PROBE_MOST_MS;
    p->transport = LINK_TLS;
    p->udp.len = 0;
    p->tls_pause_ms = TLS_PAUSE_MS;
    p->trouble[0] = '\0';
    bool soon = p->udp_since_ms == 0 && p->probe_pause_ms > PROBE_SOON_MS;
    loop_timer(p->link->loop, &p->again, soon ? PROBE_SOON_MS : p->probe_pause_ms);
    moved(p);
}

void site_tls_down(struct site *p, const char *why)
{
    bool was_up = p->transport == LINK_TLS;
    p->tls_at++;
    p->any_port = !was_up && !p->any_port;
    if (p->transport != LINK_UDP)
        p->transport = LINK_NONE;
    trouble(p, "TLS", why);
    loop_timer(p->link->loop, &p->again, p->tls_pause_ms);
    if (p->count > 0 && p->tls_at % p->count == 0)
        p->tls_pause_ms =
            2 * p->tls_pause_ms < TLS_PAUSE_MOST_MS ? 2 * p->tls_pause_ms : TLS_PAUSE_MOST_MS;
    if (was_up)
        moved(p);
}

static void back_to_udp(struct site *p, const struct addr *from)
{
    link_tls_stop(p);
    loop_untimer(&p->again);
    p->probe = 0;
    p->transport = LINK_NONE;
    udp_works(p, from);
    moved(p);
}

/* Places --------------------------------------------------------------------------------------- */

static void site_init(struct link *l, struct site *p)
{
    p->link = l;
    p->silence.fire = silence_fires;
    p->again.fire = again_fires;
    p->tls_pause_ms = TLS_PAUSE_MS;
    p->probe_pause_ms = l->probe_ms;
    p->used_ms = clock_now_ms();
}

static void site_done(struct site *p)
{
    resolve_stop(p);
    link_tls_stop(p);
    loop_untimer(&p->silence);
    loop_untimer(&p->again);
}

void site_resolved(struct site *p, const struct addr *addrs, size_t n)
{
    memcpy(p->addrs, addrs, n * sizeof *addrs);
    p->count = n;
    p->udp.len = 0;
    p->resolved_ms = clock_now_ms();
    p->trouble[0] = '\0';
    if (p->transport != LINK_TLS)
        moved(p);
}

void site_unresolved(struct site *p, const char *why)
{
    p->resolved_ms = clock_now_ms();
    trouble(p, p->where.host, why);
    /* The next message that is to be sent looks again. */
}

static void relay_free(struct site *p)
{
    p->link->relay_count--;
    list_remove(&p->node);
    site_done(p);
    free(p);
}

static struct site *relay_new(struct link *l, const struct presence_way *way)
{
    uint64_t now = clock_now_ms();
    list_for_each(r, &l->relays, struct site, node) if (now - r->used_ms > RELAY_UNUSED_MS)
        relay_free(r);
    struct site *p = l->relay_count < LINK_RELAYS_MAX ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return NULL;
    site_init(l, p);
    p->way = *way;
    p->addrs[0] = way->relay;
    p->count = 1;
    char text[ADDR_TEXT_MAX];
    (void)snprintf(p->name, sizeof p->name, "%s", addr_format(&way->relay, text));
    list_append(&l->relays, &p->node);
    l->relay_count++;
    return p;
}

static struct site *site_find(struct link *l, const struct presence_way *way)
{
    if (way->server >= l->count)
        return NULL;
    if (way->relay.len == 0)
        return &l->servers[way->server];
    list_for_each(r, &l->relays, struct site,
                  node) if (r->way.server == way->server &&
                            addr_equal(&r->way.relay, &way->relay)) return r;
    return relay_new(l, way);
}

static struct site *site_at(struct link *l, const struct addr *from)
{
    for (uint32_t i = 0; i < l->count; i++)
        for (size_t k = 0; k < l->servers[i].count; k++)
            if (addr_equal(&l->servers[i].addrs[k], from))
                return &l->servers[i];
    list_for_each(r, &l->relays, struct site, node) if (addr_equal(&r->addrs[0], from)) return r;
    return NULL;
}

/* Bytes ---------------------------------------------------------------------------------------- */

void link_send(struct link *l, const struct presence_way *way, const void *bytes, size_t n)
{
    struct site *p = site_find(l, way);
    if (!p)
        return;
    p->used_ms = clock_now_ms();
    if (p->count == 0) {
        look_again(p);
        return;
    }
    int r = 0;
    if (p->transport == LINK_TLS)
        r = link_tls_send(p->tls, STR(""), (struct str){bytes, n});
    else
        udp_send(p, bytes, n);
    if (r == 0)
        await(p);
}

static int packet_send(struct link *l, const struct presence_way *way, struct str head,
                       struct str body)
{
    struct site *p = site_find(l, way);
    uint8_t packet[RELAY_MAX];
    if (!p || head.n + body.n > RELAY_MAX)
        return -EAGAIN;
    p->used_ms = clock_now_ms();
    if (p->transport == LINK_TLS)
        return link_tls_send(p->tls, head, body);
    /* To one address only: it may be much. */
    const struct addr *to = p->udp.len > 0 ? &p->udp : p->count == 1 ? &p->addrs[0] : NULL;
    if (!to || l->no_udp)
        return -EAGAIN;
    memcpy(packet, head.p, head.n);
    memcpy(packet + head.n, body.p, body.n);
    l->host.udp_send(l->ctx, to, packet, head.n + body.n);
    return 0;
}

int link_send_data(struct link *l, const struct presence_way *way, uint32_t channel,
                   const void *bytes, size_t n)
{
    uint8_t head[RELAY_HEAD];
    relay_head(head, channel);
    return packet_send(l, way, (struct str){(const char *)head, sizeof head},
                       (struct str){bytes, n});
}

int link_send_early(struct link *l, const struct presence_way *way, uint64_t call,
                    const void *bytes, size_t n)
{
    uint8_t head[RELAY_EARLY_HEAD];
    relay_early_head(head, call);
    return packet_send(l, way, (struct str){(const char *)head, sizeof head},
                       (struct str){bytes, n});
}

void site_input(struct site *p, const void *bytes, size_t n)
{
    const struct link *l = p->link;
    const struct presence_way way = p->way;
    uint32_t channel;
    struct str payload;
    heard(p);
    if (n == 0 || *(const uint8_t *)bytes != RELAY_MAGIC)
        l->host.message(l->ctx, &way, bytes, n);
    else if (relay_decode(bytes, n, &channel, &payload) == 0)
        l->host.data(l->ctx, &way, channel, payload.p, payload.n);
}

static bool is_probe_answer(const struct site *p, const void *bytes, size_t n)
{
    struct rdvmsg m;
    return p->probe != 0 && rdvmsg_decode(&m, bytes, n) == 0 && m.type == RDVMSG_COOKIE_IS &&
           m.transaction == p->probe;
}

bool link_input(struct link *l, const struct addr *from, const void *bytes, size_t n)
{
    const uint8_t *first = bytes;
    if (n == 0 || (*first != RDVMSG_MAGIC && *first != RELAY_MAGIC))
        return false;
    struct site *p = site_at(l, from);
    if (!p || l->no_udp)
        return p != NULL;
    if (is_probe_answer(p, bytes, n)) {
        if (p->transport == LINK_TLS)
            back_to_udp(p, from);
        return true;
    }
    if (p->transport != LINK_TLS)
        udp_works(p, from);
    site_input(p, bytes, n);
    return true;
}

/* The whole ------------------------------------------------------------------------------------ */

void link_network_changed(struct link *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        struct site *p = &l->servers[i];
        link_tls_stop(p);
        loop_untimer(&p->again);
        p->transport = LINK_NONE;
        p->udp.len = 0;
        p->tls_pause_ms = TLS_PAUSE_MS;
        p->resolved_ms = 0;
        p->udp_since_ms = 0;
        p->any_port = false;
        struct addr numeric;
        if (resolve_numeric(&p->where, &numeric) < 0)
            look_again(p);
        moved(p);
    }
}

static int server_init(struct link *l, uint32_t i, const char *text)
{
    struct site *p = &l->servers[i];
    site_init(l, p);
    p->way.server = i;
    list_init(&p->node);
    if (server_name_parse(text, &p->where) < 0 || strlen(text) >= sizeof p->given)
        return -EINVAL;
    memcpy(p->given, text, strlen(text) + 1);
    (void)snprintf(p->name, sizeof p->name, strchr(p->where.host, ':') ? "[%s]:%s" : "%s:%s",
                   p->where.host, p->where.port);
    p->resolved_ms = clock_now_ms();
    if (resolve_numeric(&p->where, &p->addrs[0]) == 0) {
        p->count = 1;
        return 0;
    }
    return resolve_start(p);
}

int link_new(struct loop *loop, const struct link_host *host, void *ctx,
             const struct link_config *config, struct link **ret_link)
{
    struct link *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    *l = (struct link){.loop = loop, .host = *host, .ctx = ctx, .no_udp = config->no_udp};
    l->probe_ms = config->probe_ms ? config->probe_ms : PROBE_MS;
    list_init(&l->relays);
    l->known_servers = strdup(config->known_servers);
    l->servers = calloc(config->count ? config->count : 1, sizeof *l->servers);
    int r = l->servers && l->known_servers ? 0 : -ENOMEM;
    for (uint32_t i = 0; r == 0 && i < config->count; i++) {
        l->count++;
        r = server_init(l, i, config->servers[i]);
    }
    if (r < 0) {
        link_free(l);
        return r;
    }
    *ret_link = l;
    return 0;
}

void link_free(struct link *l)
{
    if (!l)
        return;
    for (uint32_t i = 0; i < l->count; i++)
        site_done(&l->servers[i]);
    list_for_each(r, &l->relays, struct site, node) relay_free(r);
    link_tls_client_free(l->client);
    free(l->servers);
    free(l->known_servers);
    free(l);
}

const char *link_server_name(const struct link *l, uint32_t server)
{
    return server < l->count ? l->servers[server].given : "?";
}

void link_status(const struct link *l, uint32_t server, struct link_status *ret_status)
{
    static const struct site none;
    const struct site *p = server < l->count ? &l->servers[server] : &none;
    *ret_status =
        (struct link_status){.transport = p->transport, .trouble = *p->trouble ? p->trouble : NULL};
    if (p->transport == LINK_UDP)
        ret_status->addr = p->udp;
    else if (p->transport == LINK_TLS)
        ret_status->addr = p->addrs[p->tls_at % p->count];
    ret_status->own_port = p->transport == LINK_TLS && link_tls_has_own_port(p->tls);
}
