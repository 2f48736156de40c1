/* Looks for peers without a server, and remembers where they were. Peers come in from remote.c;
 * addresses go back to it, where sessions are made. */
#include "peerd/nearby.h"

#include <stdio.h>

#include "base/log.h"
#include "keys/place.h"
#include "peerd/dial.h"
#include "peerd/peerd.h"

/* For the servers alone; a call that gets through is answered within this. */
#define PATIENCE_MS 1500
/* Interfaces that have come since are looked for. */
#define JOIN_MS 30000

static bool lan_lets_in(void *ctx, const struct key *asker)
{
    return remote_may_connect(ctx, asker);
}

static struct str lan_record(void *ctx)
{
    const struct peerd *p = ctx;
    return p->net.presence ? presence_own_record(p->net.presence) : STR("");
}

static uint16_t lan_port(void *ctx)
{
    const struct peerd *p = ctx;
    return p->net.udp.port;
}

static uint64_t lan_unix_ms(void *ctx)
{
    (void)ctx;
    return net_unix_ms();
}

/* Where it answered before: the last place first, the others as further tries. A server that says
 * that it is not there is believed. */
static bool met_try(struct remote *r)
{
    const struct met_peer *m = met_find(&r->peerd->nearby.met, &r->key);
    if (r->near.err == -EHOSTDOWN)
        return false;
    for (size_t i = 0; m && i < m->count; i++)
        remote_near(r, &m->addrs[i], "where it answered before");
    return m != NULL;
}

static void near_end(struct remote *r)
{
    bool tried = !r->session && met_try(r);
    r->near.asking = false;
    if (!tried && r->near.err && !r->session && !r->calling)
        dials_fail(r, r->near.err, r->near.sentence);
}

static void lan_found(void *ctx, const struct lan_found *f)
{
    struct remote *r = remote_find(ctx, &f->key);
    if (!r)
        return;
    if (f->addr.len > 0) {
        r->near.asking = false;
        remote_near(r, &f->addr, "on the local network");
        return;
    }
    trail_add(&r->trail, "nobody on the local network says that it is this peer");
    if (r->near.asking)
        near_end(r);
}

static const struct lan_host lan_host = {.lets_in = lan_lets_in,
                                         .record = lan_record,
                                         .port = lan_port,
                                         .unix_ms = lan_unix_ms,
                                         .found = lan_found};

static void lan_start(struct nearby *n)
{
    struct peerd *p = n->peerd;
    int r = n->lan ? 0 : lan_new(&p->loop, &lan_host, p, &p->id, &n->lan);
    if (r < 0)
        log_debug("no local network err=%s", strerror(-r));
}

static void join_fires(struct timer *t)
{
    struct nearby *n = container_of(t, struct nearby, timer);
    if (n->lan)
        lan_network_changed(n->lan);
    else
        lan_start(n);
    loop_timer(&n->peerd->loop, t, JOIN_MS);
}

/* Servers see us elsewhere, and sessions may have better ways, or need others. */
static void network_changed(struct netwatch *w)
{
    struct nearby *n = container_of(w, struct nearby, netwatch);
    struct peerd *p = n->peerd;
    log_info("the network has changed");
    if (n->lan)
        lan_network_changed(n->lan);
    gathering_network_changed(&p->net.gathering);
    tcpseen_network_changed(&p->net.tcpseen);
    if (p->net.link)
        link_network_changed(p->net.link);
    mapping_network_changed(&p->net.mapping);
    keeping_network_changed(&p->net.keeping);
    list_for_each(r, &p->remotes, struct remote, link) path_network_changed(r);
}

void nearby_start(struct nearby *n, struct peerd *p)
{
    char path[4096];
    *n = (struct nearby){.peerd = p, .timer.fire = join_fires};
    int r = key_place("met", path, sizeof path);
    if (r == 0)
        r = met_load(&n->met, path);
    if (r < 0)
        log_warn("where peers were is not known err=%s", strerror(-r));
    lan_start(n);
    loop_timer(&p->loop, &n->timer, JOIN_MS);
    r = netwatch_start(&n->netwatch, &p->loop, network_changed);
    if (r < 0)
        log_warn("changes of the network are not noticed err=%s", strerror(-r));
}

void nearby_stop(struct nearby *n)
{
    loop_untimer(&n->timer);
    netwatch_stop(&n->netwatch);
    lan_free(n->lan);
    n->lan = NULL;
    met_done(&n->met);
}

/* One attempt ---------------------------------------------------------------------------------- */

static void look(struct remote *r)
{
    struct nearby *n = &r->peerd->nearby;
    if (r->near.asked || r->session)
        return;
    r->near.asked = true;
    lan_start(n);
    int e = n->lan ? lan_ask(n->lan, &r->key) : -ENODEV;
    r->near.asking = e == 0;
    if (e == 0)
        trail_add(&r->trail, "asked for on the local network");
    else
        near_end(r);
}

static void patience_ends(struct timer *t)
{
    struct near *near = container_of(t, struct near, timer);
    look(container_of(near, struct remote, near));
}

void nearby_init(struct remote *r)
{
    r->near = (struct near){.timer.fire = patience_ends};
}

void nearby_done(struct remote *r)
{
    loop_untimer(&r->near.timer);
}

void nearby_begin(struct remote *r)
{
    nearby_done(r);
    nearby_init(r);
    loop_timer(&r->peerd->loop, &r->near.timer,
               net_server_there(&r->peerd->net) ? PATIENCE_MS : 50);
}

bool nearby_holds(struct remote *r, int err, const char *sentence)
{
    if (err == -EACCES || r->session)
        return false;
    r->near.err = err;
    (void)snprintf(r->near.sentence, sizeof r->near.sentence, "%s", sentence);
    if (!r->near.asked)
        look(r);
    return r->near.asking || r->session || !dials_waiting(r);
}

void nearby_note(struct remote *r, const struct addr *at)
{
    struct nearby *n = &r->peerd->nearby;
    if (met_note(&n->met, &r->key, at, net_unix_ms() / 1000) && met_save(&n->met) < 0)
        log_warn("where peers were is not written");
}
