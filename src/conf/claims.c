/* Two applications that claim the same route at addresses that overlap. Each claim leaves two texts
 * in an index, its route with its own address and its route with its family and port, so that the
 * next one is checked with two look-ups however many there are. */
#include "conf/reader.h"

#define CLAIM_TEXT_MAX (ROUTE_TEXT_MAX + ADDR_TEXT_MAX + 8)

/* A claim as texts: of its own address, of its family's wildcard, and of any address. */
struct claim {
    char own[CLAIM_TEXT_MAX], wild[CLAIM_TEXT_MAX], any[CLAIM_TEXT_MAX];
    bool is_wild, is_unix;
};

static void claim_make(struct claim *c, const char *route, const struct addr *listen)
{
    uint8_t zero[16] = {0};
    char text[ADDR_TEXT_MAX];
    struct addr own = addr_unmap(listen);
    uint16_t port = addr_port(&own);
    struct addr wild = addr_make(own.sa.sa_family, zero, port);
    c->is_unix = own.sa.sa_family == AF_UNIX;
    c->is_wild = !c->is_unix && addr_is_wildcard(&own);
    (void)snprintf(c->own, sizeof c->own, "%s\t%s", route, addr_format(&own, text));
    if (c->is_unix)
        return;
    (void)snprintf(c->wild, sizeof c->wild, "%s\t%s", route, addr_format(&wild, text));
    (void)snprintf(c->any, sizeof c->any, "%s\t%d %u", route, own.sa.sa_family, port);
}

/* The application that has it already, or CONF_INDEX_NONE. */
static uint32_t claim_find(const struct conf_reader *r, const struct claim *c)
{
    if (c->is_wild)
        return conf_index_find(r->claims, c->any);
    uint32_t there = conf_index_find(r->claims, c->own);
    if (there != CONF_INDEX_NONE || c->is_unix)
        return there;
    return conf_index_find(r->claims, c->wild);
}

static void claim_add(struct conf_reader *r, const struct claim *c, uint32_t app)
{
    if (conf_index_add(r->claims, c->own, app) < 0 ||
        (!c->is_unix && conf_index_add(r->claims, c->any, app) < 0))
        r->short_of_memory = true;
}

/* One route at all addresses where it applies; false after a complaint: one for each is enough. */
static bool route_check(struct conf_reader *r, const struct conf_app *app, struct route *route,
                        unsigned line)
{
    struct claim claim;
    char text[ROUTE_TEXT_MAX], address[ADDR_TEXT_MAX];
    uint16_t port = route->port;
    uint32_t self = (uint32_t)(app - r->conf->apps);
    route->port = 0;
    (void)route_format(route, text);
    for (size_t i = 0; i < app->listen.count; i++) {
        const struct addr *listen = &app->listen.items[i];
        if (listen->sa.sa_family != AF_UNIX && port && port != addr_port(listen))
            continue;
        claim_make(&claim, text, listen);
        uint32_t there = claim_find(r, &claim);
        if (there != CONF_INDEX_NONE && there != self) {
            const struct conf_app *other = &r->conf->apps[there];
            conf_complain(r, line, "route",
                          "%.200s at %s is claimed by the application %s already (%s:%u): give one "
                          "of them another name, path or address",
                          text, addr_format(listen, address), other->name, other->place.file,
                          other->place.line);
            return false;
        }
        claim_add(r, &claim, self);
    }
    return true;
}

void conf_claims_check(struct conf_reader *r, const struct conf_app *app)
{
    struct route routes[2];
    for (size_t i = 0; i < app->routes.count; i++) {
        size_t n = conf_route(app->routes.items[i], routes);
        unsigned line = i < r->route_room ? r->route_lines[i] : app->place.line;
        for (size_t k = 0; k < n; k++)
            if (!route_check(r, app, &routes[k], line))
                break;
    }
}
