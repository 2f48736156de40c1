/* Asks berthd for its list, makes a routing table of it as dispatch has one, and asks that: the
 * answer is what would really happen. */
#include "cli/why-shared.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/daemon.h"
#include "share/route.h"

struct shared {
    json_t *list;
    struct route_entry *entries;
    size_t count;
};

static json_t *list_get(void)
{
    char *text = NULL;
    CLEANUP_FD int fd = daemon_connect(false);
    json_t *list = NULL;
    if (fd >= 0 && daemon_command(fd, (const char *[]){"list", NULL}, -EBADF, NULL, &text) == 0)
        list = json_loads(text, 0, NULL);
    free(text);
    return list;
}

static int entry_add(struct shared *s, uint32_t app, const json_t *route)
{
    char reason[ROUTE_REASON_MAX];
    struct route_entry e = {.claim = (uint32_t)s->count, .app = app, .v6only = true};
    if (addr_parse(json_string_value(json_object_get(route, "address")), &e.bound) < 0 ||
        route_parse(json_string_value(json_object_get(route, "route")), &e.route, reason) < 0)
        return 0;
    struct route_entry *more = reallocarray(s->entries, s->count + 1, sizeof *more);
    if (!more)
        return -ENOMEM;
    s->entries = more;
    s->entries[s->count++] = e;
    return 0;
}

static void entries_read(struct shared *s)
{
    size_t i, k, n;
    json_t *app, *bind, *route;
    json_array_foreach(json_object_get(s->list, "apps"), i, app)
    {
        json_array_foreach(json_object_get(app, "binds"), k, bind)
        {
            json_array_foreach(json_object_get(bind, "routes"), n, route)
            {
                if (entry_add(s, (uint32_t)i, route) < 0)
                    return;
            }
        }
    }
}

static const json_t *app_at(const struct shared *s, uint32_t app)
{
    return json_array_get(json_object_get(s->list, "apps"), app);
}

static void app_print(const struct shared *s, uint32_t app)
{
    const json_t *a = app_at(s, app);
    (void)printf("%s (pid %lld: %s)", json_string_value(json_object_get(a, "name")),
                 (long long)json_integer_value(json_object_get(a, "pid")),
                 json_string_value(json_object_get(a, "command")));
}

static void programs_print(const struct shared *s, uint16_t port)
{
    char route[ROUTE_TEXT_MAX], address[ADDR_TEXT_MAX];
    (void)printf("\nwho shares port %u through berth\n", port);
    uint32_t last = UINT32_MAX;
    for (size_t i = 0; i < s->count; i++) {
        const struct route_entry *e = &s->entries[i];
        if (addr_port(&e->bound) != port)
            continue;
        if (e->app != last) {
            (void)printf("  ");
            app_print(s, e->app);
            (void)printf("\n");
        }
        last = e->app;
        (void)printf("      %s at %s\n", route_format(&e->route, route),
                     addr_format(&e->bound, address));
    }
}

/* The question as a connection would put it: protocol, host and path of the URL. */
static bool sniffed_of(const char *url, struct sniffed *sniffed, struct route *ret_route)
{
    static const enum proto protos[SCHEME_COUNT] = {
        [SCHEME_HTTP] = PROTO_HTTP,   [SCHEME_TLS] = PROTO_TLS,
        [SCHEME_SSH] = PROTO_SSH,     [SCHEME_SOCKS] = PROTO_SOCKS,
        [SCHEME_RDP] = PROTO_RDP,     [SCHEME_POSTGRES] = PROTO_POSTGRES,
        [SCHEME_REDIS] = PROTO_REDIS, [SCHEME_MQTT] = PROTO_MQTT,
        [SCHEME_XMPP] = PROTO_XMPP,
    };
    char text[ROUTE_TEXT_MAX], reason[ROUTE_REASON_MAX];
    bool https = strncmp(url, "https://", 8) == 0;
    (void)snprintf(text, sizeof text, "%s%.*s", https ? "tls://" : "",
                   https ? (int)strcspn(url + 8, "/") : (int)strlen(url), https ? url + 8 : url);
    if (!strstr(url, "://") || route_parse(text, ret_route, reason) < 0)
        return false;
    sniffed->proto = protos[ret_route->scheme];
    sniffed->host = str_of(ret_route->host);
    sniffed->path = (struct str){ret_route->path, ret_route->path_len};
    if (ret_route->scheme == SCHEME_POSTGRES)
        sniffed->database = sniffed->path;
    return true;
}

static void winner_print(const struct shared *s, const char *url, const struct addr *local)
{
    struct route route;
    struct sniffed *sniffed = calloc(1, sizeof *sniffed);
    struct route_table *t = route_table_new(s->entries, s->count);
    char at[ADDR_TEXT_MAX];
    if (sniffed && t && sniffed_of(url, sniffed, &route)) {
        struct route_query q = {.local = *local, .peer = *local, .sniffed = sniffed};
        uint32_t claim = ROUTE_NONE;
        bool alone = route_match_early(t, local, local, &claim) == ROUTE_CLAIM;
        if (!alone)
            claim = route_match(t, &q);
        (void)printf("\n%s at %s → ", url, addr_format(local, at));
        if (claim == ROUTE_NONE)
            (void)printf("nobody: it is refused, reason NoRoute");
        else
            app_print(s, s->entries[claim].app);
        (void)printf("%s\n", alone ? ", which gets all that comes there" : "");
    }
    route_table_free(t);
    free(sniffed);
}

void why_shared_print(const char *subject, uint16_t port)
{
    struct shared s = {.list = list_get()};
    size_t here = 0;
    entries_read(&s);
    for (size_t i = 0; i < s.count; i++)
        here += addr_port(&s.entries[i].bound) == port;
    if (here > 0) {
        uint8_t loopback[4] = {127, 0, 0, 1};
        struct addr local = addr_make(AF_INET, loopback, port);
        programs_print(&s, port);
        if (strstr(subject, "://"))
            winner_print(&s, subject, &local);
    }
    free(s.entries);
    json_decref(s.list);
}
