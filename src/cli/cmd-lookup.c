/* berth lookup: what a rendezvous server knows about a peer, checked, for people and for programs.
 */
#include <arpa/inet.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/found.h"

static const char help[] =
    "usage: berth lookup NAME|KEY[/SERVICE] --rendezvous HOST:PORT [--json]\n"
    "\n"
    "Asks a rendezvous server for a peer's record and checks it: the signature, that the key is "
    "the "
    "one\n"
    "asked for, that it has not expired and is no older than one seen before. Shows key, "
    "addresses, "
    "ports,\n"
    "services and how long ago the peer was last heard of.\n"
    "\n"
    "The key of a name is remembered when it is seen first; from then on another key is an error. "
    "See\n"
    "`berth peers`.\n"
    "\n"
    "  --rendezvous HOST:PORT  the server; several times: until one knows the peer (else "
    "$BERTH_RENDEZVOUS)\n"
    "  --json                  for programs\n"
    "\n"
    "Exit status: 0 it is registered; 1 it is not, or what the server says is refused; 2 usage.\n";

static bool is_wanted(const struct target *t, const struct record_service *s)
{
    return !*t->service || str_eq(s->name, str_of(t->service));
}

static void services_print(const struct target *t, const struct record *r)
{
    for (size_t i = 0; i < r->service_count; i++) {
        const struct record_service *s = &r->services[i];
        if (!is_wanted(t, s))
            continue;
        (void)printf("  %-11s" STR_FMT, "service", STR_ARG(s->name));
        if (s->port)
            (void)printf("  %s port %u", peer_transport(s->transport), s->port);
        (void)putchar('\n');
    }
}

/* Without the port. */
static const char *ip_text(const struct addr *a, char buf[ADDR_TEXT_MAX])
{
    const void *ip = a->sa.sa_family == AF_INET6 ? (const void *)&a->v6.sin6_addr
                                                 : (const void *)&a->v4.sin_addr;
    return inet_ntop(a->sa.sa_family, ip, buf, ADDR_TEXT_MAX) ? buf : "?";
}

/* An address without a port is one at which the services are. */
static const char *address_text(const struct addr *a, char buf[ADDR_TEXT_MAX])
{
    return addr_port(a) ? addr_format(a, buf) : ip_text(a, buf);
}

static void record_print(const struct target *t, const struct found *f)
{
    const struct record *r = &f->record;
    char text[ADDR_TEXT_MAX], when[PEER_TIME_MAX];
    (void)printf("  %-11s%u s ago; record %llu, valid until %s\n", "heard of", f->age_s,
                 (unsigned long long)r->sequence, peer_time(r->not_after, when));
    for (size_t i = 0; i < r->candidate_count; i++) {
        const struct record_candidate *c = &r->candidates[i];
        (void)printf("  %-11s%s", "address", address_text(&c->addr, text));
        if (addr_port(&c->addr))
            (void)printf(" %s", peer_transport(c->transport));
        (void)printf(" (%s)\n", peer_kind(c->kind));
    }
    for (size_t i = 0; i < r->port_count; i++)
        (void)printf("  %-11s%s %u\n", "port", peer_transport(r->ports[i].transport),
                     r->ports[i].port);
    services_print(t, r);
    if (r->relay.n)
        (void)printf("  %-11s" STR_FMT "\n", "relay", STR_ARG(r->relay));
}

static void found_print(const struct target *t, const struct found *f)
{
    char key[KEY_TEXT_MAX], when[PEER_TIME_MAX];
    (void)printf("%s%s%s\n  %-11s%s\n", cli_style(stdout, STYLE_BOLD),
                 *t->name ? t->name : "(by key)", cli_style(stdout, STYLE_NONE), "key",
                 key_format(&f->key, key));
    if (f->claimed)
        (void)printf("  %-11s%s, at %s\n", "claimed", peer_time(f->claimed, when), f->server);
    if (f->first_use)
        (void)printf("  %-11snow, on first use\n", "pinned");
    if (f->registered)
        record_print(t, f);
    else
        (void)printf("  %-11snot registered now\n", "heard of");
}

static json_t *addresses_json(const struct record *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->candidate_count; i++) {
        const struct record_candidate *c = &r->candidates[i];
        char text[ADDR_TEXT_MAX];
        (void)json_array_append_new(
            list, json_pack("{s:s, s:i, s:s, s:s}", "address", ip_text(&c->addr, text), "port",
                            (int)addr_port(&c->addr), "transport", peer_transport(c->transport),
                            "kind", peer_kind(c->kind)));
    }
    return list;
}

static json_t *ports_json(const struct record *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->port_count; i++)
        (void)json_array_append_new(list, json_pack("{s:s, s:i}", "transport",
                                                    peer_transport(r->ports[i].transport), "port",
                                                    (int)r->ports[i].port));
    return list;
}

static json_t *services_json(const struct target *t, const struct record *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->service_count; i++) {
        const struct record_service *s = &r->services[i];
        if (is_wanted(t, s))
            (void)json_array_append_new(
                list, json_pack("{s:s%, s:s, s:i}", "name", s->name.p, s->name.n, "transport",
                                peer_transport(s->transport), "port", (int)s->port));
    }
    return list;
}

static void record_json(json_t *j, const struct target *t, const struct found *f)
{
    const struct record *r = &f->record;
    (void)json_object_set_new(j, "age", json_integer(f->age_s));
    (void)json_object_set_new(j, "sequence", json_integer((json_int_t)r->sequence));
    (void)json_object_set_new(j, "not_after", json_integer((json_int_t)r->not_after));
    (void)json_object_set_new(j, "addresses", addresses_json(r));
    (void)json_object_set_new(j, "ports", ports_json(r));
    (void)json_object_set_new(j, "services", services_json(t, r));
    if (r->relay.n)
        (void)json_object_set_new(j, "relay", json_stringn(r->relay.p, r->relay.n));
}

static void found_json(const struct target *t, const struct found *f)
{
    char key[KEY_TEXT_MAX];
    json_t *j = json_pack("{s:s, s:s, s:b, s:b}", "key", key_format(&f->key, key), "server",
                          f->server, "registered", f->registered, "first_use", f->first_use);
    if (*t->name)
        (void)json_object_set_new(j, "name", json_string(t->name));
    if (f->claimed)
        (void)json_object_set_new(j, "claimed", json_integer((json_int_t)f->claimed));
    if (f->registered)
        record_json(j, t, f);
    if (json_dumpf(j, stdout, JSON_INDENT(2)) == 0)
        (void)putchar('\n');
    json_decref(j);
}

static int lookup(const struct target *t, const struct rendezvous *where, bool as_json)
{
    struct found f;
    bool has = !*t->service;
    int status = found_ask("lookup", t, where, &f);
    if (status != CLI_OK)
        return status;
    for (size_t i = 0; f.registered && i < f.record.service_count; i++)
        has = has || is_wanted(t, &f.record.services[i]);
    if (f.registered && !has)
        return cli_fail("lookup", "%s has no service '%s'", *t->name ? t->name : "the peer",
                        t->service);
    if (as_json)
        found_json(t, &f);
    else
        found_print(t, &f);
    return f.registered ? CLI_OK : CLI_TROUBLE;
}

struct asked {
    struct rendezvous where;
    bool as_json;
};

static int option_take(void *ctx, int c)
{
    struct asked *a = ctx;
    if (c == 'r')
        return peer_server_add("lookup", &a->where, optarg);
    a->as_json = true;
    return CLI_OK;
}

int cmd_lookup(int argc, char **argv)
{
    static const struct option options[] = {{"rendezvous", required_argument, NULL, 'r'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct asked a = {.as_json = false};
    struct target t;
    const struct cli_options taken = {"lookup", help, "", options};
    int status = cli_options(&taken, argc, argv, option_take, &a);
    if (status == CLI_OK && optind + 1 != argc)
        status = cli_usage("lookup", "whom? one NAME or KEY");
    if (status == CLI_OK)
        status = peer_servers("lookup", &a.where);
    if (status == CLI_OK)
        status = peer_start("lookup");
    if (status == CLI_OK)
        status = found_target("lookup", argv[optind], &t);
    return status == CLI_OK ? lookup(&t, &a.where, a.as_json) : status;
}
