/* From a configuration to the routing table, and from a request to its fate. Applications are
 * claimed as berthd claims them: each route at each address, a reserved name wherever nobody serves
 * it. An application without `listen` is asked only when nobody else answers: where it will listen,
 * only the program knows. */
#include "conf/explain.h"

#include <errno.h>
#include <stdlib.h>

#include "base/nearest.h"
#include "conf/index.h"
#include "conf/request.h"

/* What a claim number stands for. */
struct claim_origin {
    uint32_t app;     /* or */
    uint32_t reserve; /* the other one is CONF_INDEX_NONE */
    const char *route;
    uint8_t part; /* which of its routes */
};

struct conf_router {
    const struct conf *conf; /* borrowed */
    struct route_table *table;
    struct claim_origin *origins;
    struct route_entry *entries; /* only while the table is made */
    struct conf_index *taken;    /* route and address; only then */
    size_t count, room;
    struct conf_addrs listeners;
};

static int listener_add(struct conf_router *r, struct conf_index *known, const struct addr *a)
{
    char text[ADDR_TEXT_MAX];
    int64_t there = conf_index_add(known, addr_format(a, text), 0);
    if (there != CONF_INDEX_NONE)
        return there < 0 ? -ENOMEM : 0;
    struct conf_addrs *l = &r->listeners;
    struct addr *items = reallocarray(l->items, l->count + 1, sizeof *items);
    if (!items)
        return -ENOMEM;
    l->items = items;
    items[l->count++] = addr_unmap(a);
    return 0;
}

static int listeners_collect(struct conf_router *r)
{
    struct conf_index *known = conf_index_new();
    int err = known ? 0 : -ENOMEM;
    for (size_t i = 0; err == 0 && i < r->conf->app_count; i++)
        for (size_t k = 0; err == 0 && k < r->conf->apps[i].listen.count; k++)
            err = listener_add(r, known, &r->conf->apps[i].listen.items[k]);
    conf_index_free(known);
    return err;
}

static int room_make(struct conf_router *r)
{
    if (r->count < r->room)
        return 0;
    size_t room = r->room ? r->room * 2 : 64;
    struct route_entry *entries = reallocarray(r->entries, room, sizeof *entries);
    if (!entries)
        return -ENOMEM;
    r->entries = entries;
    struct claim_origin *origins = reallocarray(r->origins, room, sizeof *origins);
    if (!origins)
        return -ENOMEM;
    r->origins = origins;
    r->room = room;
    return 0;
}

/* One route at one address, unless it is there already. */
static int claim_add(struct conf_router *r, const struct route *route, const struct addr *at,
                     const struct claim_origin *origin)
{
    char key[ROUTE_TEXT_MAX + ADDR_TEXT_MAX], text[ROUTE_TEXT_MAX], address[ADDR_TEXT_MAX];
    struct route_entry e = {.route = *route, .bound = addr_unmap(at)};
    e.route.port = addr_port(at);
    e.v6only = e.bound.sa.sa_family == AF_INET6;
    e.claim = (uint32_t)r->count;
    e.app = origin->reserve == CONF_INDEX_NONE ? origin->app
                                               : (uint32_t)r->conf->app_count + origin->reserve;
    (void)snprintf(key, sizeof key, "%s\t%s", route_format(&e.route, text),
                   addr_format(&e.bound, address));
    int64_t there = conf_index_add(r->taken, key, 0);
    if (there != CONF_INDEX_NONE)
        return there < 0 ? -ENOMEM : 0;
    if (room_make(r) < 0)
        return -ENOMEM;
    r->origins[r->count] = *origin;
    r->entries[r->count++] = e;
    return 0;
}

/* All routes of one text at all of these addresses. */
static int claims_add(struct conf_router *r, const struct conf_addrs *at,
                      struct claim_origin *origin)
{
    struct route routes[2];
    size_t n = conf_route(origin->route, routes);
    for (size_t i = 0; i < n; i++) {
        origin->part = (uint8_t)i;
        for (size_t k = 0; k < at->count && routes[i].scheme != SCHEME_PEER; k++) {
            const struct addr *a = &at->items[k];
            if (a->sa.sa_family != AF_UNIX && routes[i].port && routes[i].port != addr_port(a))
                continue;
            int err = claim_add(r, &routes[i], a, origin);
            if (err < 0)
                return err;
        }
    }
    return 0;
}

static int app_claim(struct conf_router *r, uint32_t app, const struct conf_addrs *at)
{
    const struct conf_list *routes = &r->conf->apps[app].routes;
    int err = 0;
    for (size_t i = 0; err == 0 && i < routes->count; i++) {
        struct claim_origin origin = {app, CONF_INDEX_NONE, routes->items[i], 0};
        err = claims_add(r, at, &origin);
    }
    return err;
}

/* Would an application without `listen` share this port, if its program opened it? */
static bool may_listen(const struct conf_app *a, uint16_t port)
{
    for (size_t i = 0; i < a->ports.count; i++)
        if (a->ports.items[i] == port)
            return true;
    return a->ports.count == 0;
}

static int all_claim(struct conf_router *r, uint16_t assumed_port)
{
    uint8_t zero[16] = {0};
    struct addr any[] = {addr_make(AF_INET, zero, assumed_port),
                         addr_make(AF_INET6, zero, assumed_port)};
    const struct conf_addrs assumed = {any, 2};
    int err = 0;
    for (uint32_t i = 0; err == 0 && i < r->conf->app_count; i++) {
        const struct conf_app *a = &r->conf->apps[i];
        if (a->listen.count > 0)
            err = app_claim(r, i, &a->listen);
        else if (assumed_port && may_listen(a, assumed_port))
            err = app_claim(r, i, &assumed);
    }
    for (uint32_t i = 0; err == 0 && i < r->conf->reserve_count; i++) {
        struct claim_origin origin = {CONF_INDEX_NONE, i, r->conf->reserves[i].route, 0};
        err = claims_add(r, &r->listeners, &origin);
    }
    return err;
}

/* assumed_port: where applications without `listen` are taken to listen; 0: nowhere. */
static int router_new(const struct conf *c, uint16_t assumed_port, struct conf_router **ret_router)
{
    struct conf_router *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->conf = c;
    r->taken = conf_index_new();
    int err = r->taken ? listeners_collect(r) : -ENOMEM;
    if (err == 0)
        err = all_claim(r, assumed_port);
    if (err == 0) {
        r->table = route_table_new(r->entries, r->count);
        err = r->table ? 0 : -ENOMEM;
    }
    free(r->entries);
    r->entries = NULL;
    conf_index_free(r->taken);
    r->taken = NULL;
    if (err < 0)
        conf_router_free(r);
    else
        *ret_router = r;
    return err;
}

int conf_router_new(const struct conf *c, struct conf_router **ret_router)
{
    return router_new(c, 0, ret_router);
}

void conf_router_free(struct conf_router *r)
{
    if (!r)
        return;
    route_table_free(r->table);
    free(r->origins);
    free(r->listeners.items);
    free(r);
}

const struct conf_addrs *conf_router_listeners(const struct conf_router *r)
{
    return &r->listeners;
}

/* One question */

struct question {
    const struct conf_router *router;
    const struct conf_request *request;
    struct sniffed sniffed;
    enum sniff_verdict verdict;
};

static void answer_claim(const struct conf_router *r, uint32_t claim, struct conf_answer *a)
{
    struct route routes[2];
    const struct claim_origin *o = &r->origins[claim];
    (void)conf_route(o->route, routes);
    routes[o->part].port = addr_port(&a->local);
    (void)route_format(&routes[o->part], a->route);
    if (o->reserve == CONF_INDEX_NONE) {
        a->fate = CONF_FATE_DELIVERED;
        a->app = &r->conf->apps[o->app];
    } else {
        a->fate = CONF_FATE_RESERVED;
        a->reserve = &r->conf->reserves[o->reserve];
        a->reason = "Reserved";
    }
}

static void answer_make(const struct question *q, const struct addr *local, struct conf_answer *a)
{
    const struct conf_router *r = q->router;
    const struct conf_request *request = q->request;
    struct addr peer = request->from.sa.sa_family != AF_UNSPEC ? request->from : *local;
    uint32_t claim = ROUTE_NONE;
    *a = (struct conf_answer){.fate = CONF_FATE_REFUSED, .reason = "NoRoute", .local = *local};
    enum route_early early = route_match_early(r->table, local, &peer, &claim);
    a->early = early == ROUTE_CLAIM;
    if (early == ROUTE_NOBODY) {
        a->fate = CONF_FATE_NOT_OURS;
        return;
    }
    if (early == ROUTE_SNIFF && q->verdict == SNIFF_BAD) {
        a->reason = q->sniffed.reason;
        return;
    }
    struct route_query query = {.local = *local,
                                .peer = peer,
                                .sniffed = &q->sniffed,
                                .head = {request->head, request->head_len}};
    if (early == ROUTE_SNIFF)
        claim = route_match(r->table, &query);
    if (claim != ROUTE_NONE)
        answer_claim(r, claim, a);
}

static bool answer_same(const struct conf_answer *a, const struct conf_answer *b)
{
    return a->fate == b->fate && a->app == b->app && a->reserve == b->reserve &&
           strcmp(a->route, b->route) == 0;
}

/* An address that a listener brings: its own, or for a wildcard one of the documentation's (RFC
 * 5737, RFC 3849), or loopback's for names below localhost. */
static struct addr local_of(const struct conf_request *q, const struct addr *listener)
{
    static const uint8_t v4[] = {192, 0, 2, 1}, v4_loopback[] = {127, 0, 0, 1};
    static const uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}, v6_loopback[16] = {[15] = 1};
    const char *dot = strrchr(q->route.host, '.');
    bool local = strcmp(dot ? dot + 1 : q->route.host, "localhost") == 0;
    uint16_t port = addr_port(listener);
    if (listener->sa.sa_family == AF_UNIX || !addr_is_wildcard(listener))
        return *listener;
    if (listener->sa.sa_family == AF_INET)
        return addr_make(AF_INET, local ? v4_loopback : v4, port);
    return addr_make(AF_INET6, local ? v6_loopback : v6, port);
}

/* One address where it arrives, and its answer beside those that differ. */
static int answer_add(const struct question *q, const struct addr *local,
                      struct conf_answer *answers, int count)
{
    if (count == CONF_ANSWERS_MAX)
        return count;
    answer_make(q, local, &answers[count]);
    for (int i = 0; i < count; i++)
        if (answer_same(&answers[i], &answers[count]))
            return count;
    return count + 1;
}

static int answers_make(const struct question *q, struct conf_answer *answers)
{
    const struct conf_request *request = q->request;
    const struct conf_addrs *l = &q->router->listeners;
    int count = 0;
    struct addr at = request->at;
    if (at.sa.sa_family == AF_UNSPEC && request->route.kind == HOST_ADDR)
        at = request->route.addr;
    if (at.sa.sa_family != AF_UNSPEC) {
        addr_set_port(&at, request->port);
        return answer_add(q, &at, answers, 0);
    }
    for (size_t i = 0; i < l->count; i++) {
        int family = l->items[i].sa.sa_family, from = request->from.sa.sa_family;
        if (family == AF_UNIX || addr_port(&l->items[i]) != request->port ||
            (from != AF_UNSPEC && from != family))
            continue;
        struct addr local = local_of(request, &l->items[i]);
        count = answer_add(q, &local, answers, count);
    }
    if (count > 0)
        return count;
    answers[0] = (struct conf_answer){.fate = CONF_FATE_NOT_OURS, .reason = "NoRoute"};
    return 1;
}

/* Nobody has it: would one of those whose addresses are not known yet? */
static int assumed_ask(struct question *q, struct conf_answer *answers)
{
    uint8_t ip[4] = {127, 0, 0, 1};
    struct conf_router *assumed;
    struct conf_answer a;
    const struct conf_router *sure = q->router;
    struct addr local = q->request->at;
    if (local.sa.sa_family == AF_UNSPEC)
        local = addr_make(AF_INET, ip, 0);
    addr_set_port(&local, q->request->port);
    if (q->request->port == 0)
        return 0;
    int err = router_new(sure->conf, q->request->port, &assumed);
    if (err < 0)
        return err;
    q->router = assumed;
    answer_make(q, &local, &a);
    q->router = sure;
    conf_router_free(assumed);
    if (a.fate != CONF_FATE_DELIVERED || a.app->listen.count > 0)
        return 0;
    a.assumed = true;
    answers[0] = a;
    return 1;
}

/* Peers come to no address: only the service's name counts. */
static const struct conf_app *service_find(const struct conf *c, const struct route *asked,
                                           char route[ROUTE_TEXT_MAX])
{
    const struct conf_app *found = NULL;
    struct route have[2];
    for (size_t i = 0; i < c->app_count; i++)
        for (size_t k = 0; k < c->apps[i].routes.count; k++) {
            if (conf_route(c->apps[i].routes.items[k], have) != 1 || have[0].scheme != SCHEME_PEER)
                continue;
            bool same = have[0].kind == HOST_NAME && strcmp(have[0].host, asked->host) == 0;
            if (!same && (found || have[0].kind == HOST_NAME))
                continue;
            found = &c->apps[i];
            have[0].port = 0;
            (void)route_format(&have[0], route);
            if (same)
                return found;
        }
    return found;
}

static int service_ask(const struct question *q, struct conf_answer *answers)
{
    struct conf_answer *a = &answers[0];
    *a = (struct conf_answer){.fate = CONF_FATE_REFUSED, .reason = "NotServed"};
    a->app = service_find(q->router->conf, &q->request->route, a->route);
    if (a->app)
        a->fate = CONF_FATE_DELIVERED;
    return 1;
}

static bool somebody_is_open(const struct conf *c)
{
    for (size_t i = 0; i < c->app_count; i++)
        if (c->apps[i].listen.count == 0)
            return true;
    return false;
}

int conf_explain(const struct conf_router *r, const char *request,
                 struct conf_answer answers[CONF_ANSWERS_MAX], char *reason, size_t reason_size)
{
    struct conf_request *parsed = calloc(1, sizeof *parsed);
    struct question *q = calloc(1, sizeof *q);
    bool is_service = false;
    int n = parsed && q ? conf_request_parse(request, parsed, reason, reason_size) : -ENOMEM;
    if (n == 0) {
        q->router = r;
        q->request = parsed;
        q->verdict = conf_request_sniff(parsed, &q->sniffed);
        is_service = parsed->route.scheme == SCHEME_PEER;
        n = is_service ? service_ask(q, answers) : answers_make(q, answers);
    }
    bool nobody = n == 1 && !is_service &&
                  (answers[0].fate == CONF_FATE_NOT_OURS ||
                   (answers[0].fate == CONF_FATE_REFUSED && q->verdict != SNIFF_BAD));
    if (nobody && somebody_is_open(r->conf)) {
        int m = assumed_ask(q, answers);
        n = m == 0 ? n : m;
    }
    free(q);
    free(parsed);
    return n;
}

/* What may have been meant */

/* 0: the same host, elsewhere; 1: the same scheme and a name two letters away; 2: a name above or
 * below; 3: neither. */
static int farness(const struct route *asked, const struct route *have)
{
    size_t a = strlen(asked->host), h = strlen(have->host);
    const char *words[] = {have->host, NULL};
    if (a == 0 || h == 0)
        return asked->scheme == have->scheme ? 2 : 3;
    if (strcmp(asked->host, have->host) == 0)
        return 0;
    if (nearest_word(asked->host, words))
        return 1;
    const char *longer = a > h ? asked->host : have->host;
    const char *shorter = a > h ? have->host : asked->host;
    size_t by = a > h ? a - h : h - a;
    return by > 0 && longer[by - 1] == '.' && strcmp(longer + by, shorter) == 0 ? 2 : 3;
}

size_t conf_near(const struct conf *c, const char *request, struct conf_near near[CONF_NEAR_MAX])
{
    struct conf_request *q = calloc(1, sizeof *q);
    struct route routes[2];
    char reason[ROUTE_REASON_MAX];
    size_t count = 0;
    bool good = q && conf_request_parse(request, q, reason, sizeof reason) == 0;
    for (int want = 0; good && want < 3; want++)
        for (size_t i = 0; i < c->app_count; i++)
            for (size_t k = 0; k < c->apps[i].routes.count && count < CONF_NEAR_MAX; k++) {
                const char *text = c->apps[i].routes.items[k];
                if (conf_route(text, routes) > 0 && farness(&q->route, &routes[0]) == want)
                    near[count++] = (struct conf_near){&c->apps[i], text};
            }
    free(q);
    return count;
}
