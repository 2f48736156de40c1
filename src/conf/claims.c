/* Two applications that claim the same route at addresses that overlap. Each claim leaves two texts
 * in an index, its route with its own address and its route with its family and port, so that the
 * next one is checked with two look-ups however many there are. */
#include <stdlib.h>

#include "conf/reader.h"

/* An address as the ends of texts: its own, its family's wildcard, and any of its family and port.
 */
struct place {
    char own[ADDR_TEXT_MAX], wild[ADDR_TEXT_MAX], any[24];
    bool is_wild, is_unix;
};

/* The route, behind which the ends are put. */
struct claim {
    char text[ROUTE_TEXT_MAX + ADDR_TEXT_MAX];
    size_t n;
};

static void place_make(struct place *p, const struct addr *listen)
{
    uint8_t zero[16] = {0};
    struct addr own = addr_unmap(listen);
    struct addr wild = addr_make(own.sa.sa_family, zero, addr_port(&own));
    *p = (struct place){.is_unix = own.sa.sa_family == AF_UNIX};
    p->is_wild = !p->is_unix && addr_is_wildcard(&own);
    (void)addr_format(&own, p->own);
    (void)addr_format(&wild, p->wild);
    (void)snprintf(p->any, sizeof p->any, "%d %u", own.sa.sa_family, addr_port(&own));
}

static const char *claim_at(struct claim *c, const char *end)
{
    memcpy(c->text + c->n, end, strlen(end) + 1);
    return c->text;
}

/* The application that has it already, or CONF_INDEX_NONE. */
static uint32_t claim_find(const struct conf_reader *r, struct claim *c, const struct place *p)
{
    if (p->is_wild)
        return conf_index_find(r->claims, claim_at(c, p->any));
    uint32_t there = conf_index_find(r->claims, claim_at(c, p->own));
    if (there != CONF_INDEX_NONE || p->is_unix)
        return there;
    return conf_index_find(r->claims, claim_at(c, p->wild));
}

static void claim_add(struct conf_reader *r, struct claim *c, const struct place *p, uint32_t app)
{
    if (conf_index_add(r->claims, claim_at(c, p->own), app) < 0 ||
        (!p->is_unix && conf_index_add(r->claims, claim_at(c, p->any), app) < 0))
        r->short_of_memory = true;
}

static void complain(struct conf_reader *r, const struct claim *c, const struct place *p,
                     unsigned line, uint32_t there)
{
    const struct conf_app *other = &r->conf->apps[there];
    int n = c->n - 1 > 200 ? 200 : (int)c->n - 1;
    conf_complain(r, line, "route",
                  "%.*s at %s is claimed by the application %s already (%s:%u): give one of them "
                  "another name, path or address",
                  n, c->text, p->own, other->name, other->place.file, other->place.line);
}

/* One route at all addresses where it applies; false after a complaint: one for each is enough. */
static bool route_check(struct conf_reader *r, const struct conf_app *app,
                        const struct place *places, struct route *route, unsigned line)
{
    struct claim claim;
    uint16_t port = route->port;
    uint32_t self = (uint32_t)(app - r->conf->apps);
    route->port = 0;
    claim.n = strlen(route_format(route, claim.text));
    claim.text[claim.n++] = '\t';
    for (size_t i = 0; i < app->listen.count; i++) {
        const struct place *p = &places[i];
        if (!p->is_unix && port && port != addr_port(&app->listen.items[i]))
            continue;
        uint32_t there = claim_find(r, &claim, p);
        if (there != CONF_INDEX_NONE && there != self) {
            complain(r, &claim, p, line, there);
            return false;
        }
        claim_add(r, &claim, p, self);
    }
    return true;
}

/* A service is at no address: one text stands for it. */
static void service_check(struct conf_reader *r, const struct conf_app *app, struct route *route,
                          unsigned line)
{
    char text[ROUTE_TEXT_MAX];
    uint32_t self = (uint32_t)(app - r->conf->apps);
    route->port = 0;
    uint32_t there = conf_index_find(r->claims, route_format(route, text));
    if (there != CONF_INDEX_NONE && there != self)
        conf_complain(r, line, "route",
                      "%s is claimed by the application %s already (%s:%u): give one of them "
                      "another name",
                      text, r->conf->apps[there].name, r->conf->apps[there].place.file,
                      r->conf->apps[there].place.line);
    else if (conf_index_add(r->claims, text, self) < 0)
        r->short_of_memory = true;
}

void conf_claims_check(struct conf_reader *r, const struct conf_app *app)
{
    struct route routes[2];
    struct place *places = calloc(app->listen.count + 1, sizeof *places);
    r->short_of_memory |= !places;
    for (size_t i = 0; places && i < app->listen.count; i++)
        place_make(&places[i], &app->listen.items[i]);
    for (size_t i = 0; places && i < app->routes.count; i++) {
        size_t n = conf_route(app->routes.items[i], routes);
        unsigned line = i < r->route_room ? r->route_lines[i] : app->place.line;
        if (n == 1 && routes[0].scheme == SCHEME_PEER) {
            service_check(r, app, &routes[0], line);
            continue;
        }
        for (size_t k = 0; k < n; k++)
            if (!route_check(r, app, places, &routes[k], line))
                break;
    }
    free(places);
}
