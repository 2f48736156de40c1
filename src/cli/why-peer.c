/* How a peer is reached: what berth-peer did, step by step, and which way packets take now. */
#include "cli/why-peer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/found.h"
#include "cli/peerd.h"

/* Ports are numbers, addresses and URLs have a dot, a colon or brackets, processes begin with
 * "pid:": none of them is a name of a peer with a service, nor a name with a letter in it. */
bool why_is_peer(const char *subject)
{
    struct target t;
    char trouble[FOUND_TROUBLE_MAX];
    return subject[strspn(subject, "0123456789")] &&
           target_parse(subject, &t, trouble, sizeof trouble) == 0;
}

static const char *word(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

static void steps_print(const json_t *steps)
{
    size_t i;
    const json_t *s;
    json_array_foreach(steps, i, s)
    {
        json_int_t ms = json_integer_value(json_object_get(s, "ms"));
        if (ms < 0)
            (void)printf("  %s%8.1f s ago%s  %s\n", cli_style(stdout, STYLE_DIM),
                         (double)-ms / 1000, cli_style(stdout, STYLE_NONE), word(s, "what"));
        else
            (void)printf("  %s%9lld ms%s   %s\n", cli_style(stdout, STYLE_DIM), (long long)ms,
                         cli_style(stdout, STYLE_NONE), word(s, "what"));
    }
}

static void servers_print(const json_t *servers)
{
    size_t i;
    const json_t *s;
    json_array_foreach(servers, i, s)
    {
        json_int_t rtt = json_integer_value(json_object_get(s, "rtt_us"));
        (void)printf("  %s: %s", word(s, "server"), word(s, "state"));
        if (rtt)
            (void)printf(", %.1f ms away", (double)rtt / 1000);
        if (*word(s, "seen"))
            (void)printf(", sees this machine at %s over %s", word(s, "seen"),
                         word(s, "transport"));
        if (json_is_true(json_object_get(s, "silent")))
            (void)printf(", does not answer");
        if (*word(s, "reason"))
            (void)printf(", %s", word(s, "reason"));
        if (*word(s, "trouble"))
            (void)printf(" (%s)", word(s, "trouble"));
        (void)putchar('\n');
    }
}

/* NATs, and the router ------------------------------------------------------------------------- */

static void nat_print(const char *where, const json_t *nat)
{
    (void)printf("  %-6s %s%s%s: %s\n", where, cli_style(stdout, STYLE_BOLD),
                 word(nat, "fingerprint"), cli_style(stdout, STYLE_NONE), word(nat, "words"));
}

static const char *mapping_words(const char *state)
{
    static const struct {
        const char *state, *words;
    } all[] = {{"off", "not asked for (--no-port-mapping)"},
               {"waiting", "not asked for: no server has seen this machine yet"},
               {"no-nat", "not needed: servers see this machine at its own address"},
               {"no-gateway", "not asked for: there is no default route of IPv4"},
               {"asking", "is being asked for"},
               {"mapped", "mapped"},
               {"useless", "mapped to an address that is itself behind a NAT: of no use"},
               {"refused", "refused"},
               {"silent", "nothing answers to PCP, NAT-PMP or UPnP"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].state, state) == 0)
            return all[i].words;
    return state;
}

static void mapping_port_print(const char *name, const json_t *port)
{
    if (*word(port, "address"))
        (void)printf("         %s %s by %s\n", name, word(port, "address"), word(port, "by"));
}

static void mapping_print(const json_t *m)
{
    (void)printf("  port mapping%s%s: %s\n", *word(m, "router") ? " at " : "", word(m, "router"),
                 mapping_words(word(m, "state")));
    mapping_port_print("UDP", json_object_get(m, "udp"));
    mapping_port_print("TCP", json_object_get(m, "tcp"));
}

static void nats_print(const json_t *j)
{
    const json_t *here = json_object_get(j, "here"), *there = json_object_get(j, "there");
    if (!here)
        return;
    (void)printf("\nNATs\n");
    nat_print("here", json_object_get(here, "nat"));
    if (there)
        nat_print("there", json_object_get(there, "nat"));
    mapping_print(json_object_get(here, "port_mapping"));
    if (json_is_true(json_object_get(there, "mapped")))
        (void)printf("  the other side's router has mapped its port\n");
}

/* What was tried ------------------------------------------------------------------------------- */

static void pairs_print(const json_t *pairs)
{
    size_t i;
    const json_t *p;
    json_array_foreach(pairs, i, p)
    {
        bool tcp = strcmp(word(p, "transport"), "tcp") == 0;
        (void)printf("    %s %-44s %-17s %lld %s, %lld came back%s%s%s\n", tcp ? "TCP" : "UDP",
                     word(p, "address"), word(p, "kind"),
                     (long long)json_integer_value(json_object_get(p, "sent")),
                     tcp ? "tried" : "sent",
                     (long long)json_integer_value(json_object_get(p, "heard")),
                     json_is_true(json_object_get(p, "proven")) ? ": works" : "",
                     *word(p, "error") ? ": " : "", word(p, "error"));
    }
}

static void attempts_print(const json_t *attempts)
{
    size_t i;
    const json_t *a;
    if (json_array_size(attempts) > 0)
        (void)printf("\nattempts, the newest first\n");
    json_array_foreach(attempts, i, a)
    {
        json_int_t guesses = json_integer_value(json_object_get(a, "guesses"));
        (void)printf("  %s%8.1f s ago%s  %s%s%s%s%s\n", cli_style(stdout, STYLE_DIM),
                     (double)json_integer_value(json_object_get(a, "age_ms")) / 1000,
                     cli_style(stdout, STYLE_NONE), word(a, "result"),
                     *word(a, "technique") ? ", " : "", word(a, "technique"),
                     *word(a, "reason") ? ": " : "", word(a, "reason"));
        (void)printf("    %s", word(a, "doing"));
        if (guesses)
            (void)printf("; %lld ports guessed", (long long)guesses);
        (void)putchar('\n');
        pairs_print(json_object_get(a, "pairs"));
    }
}

static void advice_print(const json_t *advice)
{
    size_t i;
    const json_t *a;
    if (json_array_size(advice) > 0)
        (void)printf("\nwhat would help\n");
    json_array_foreach(advice, i, a)(void) printf("  - %s\n", word(a, "text"));
}

/* Where a session began without a server; the attempts have all others, with more of each. */
static void tries_print(const json_t *tries)
{
    size_t i;
    const json_t *t;
    if (json_array_size(tries) == 0)
        return;
    (void)printf("\naddresses of it\n");
    json_array_foreach(tries, i, t)(void)
        printf("  %-48s %-17s %s\n", word(t, "address"), word(t, "kind"), word(t, "result"));
}

static bool has_udp(const json_t *servers)
{
    size_t i;
    const json_t *s;
    json_array_foreach(servers, i, s) if (strcmp(word(s, "transport"), "udp") == 0) return true;
    return false;
}

/* What stands in the way of a better path. */
static const char *hindrance(const json_t *j)
{
    if (!has_udp(json_object_get(j, "servers")))
        return "UDP does not pass here, servers are reached over TLS only";
    if (*word(j, "hindrance"))
        return word(j, "hindrance");
    return json_array_size(json_object_get(j, "tries")) > 0
               ? "none of its addresses has answered (yet)"
               : "checks have not ended yet";
}

static void path_print(const json_t *j)
{
    const json_t *session = json_object_get(j, "session");
    if (!session)
        return;
    bool direct = strcmp(word(session, "path"), "direct") == 0;
    bool tcp = direct && strcmp(word(session, "transport"), "tcp") == 0;
    double rtt = (double)json_integer_value(json_object_get(session, "rtt_us")) / 1000;
    (void)printf("\npath in use: %s, %s, %.1f ms\n",
                 tcp      ? "direct, TCP"
                 : direct ? "direct"
                          : "relayed",
                 word(session, "address"), rtt);
    if (tcp)
        (void)printf("  not over UDP: %s\n", hindrance(j));
    else if (direct)
        (void)printf("  there is no better one\n");
    else if (!json_is_true(json_object_get(session, "caller")))
        (void)printf("  the other side called: it chooses the path\n");
    else
        (void)printf("  not direct: %s\n", hindrance(j));
}

static void print(const char *subject, const json_t *j)
{
    bool works = json_is_true(json_object_get(j, "works"));
    (void)printf("%s%s: %s%s\n", cli_style(stdout, works ? STYLE_GOOD : STYLE_BAD), subject,
                 works ? "can be reached" : word(j, "sentence"), cli_style(stdout, STYLE_NONE));
    if (*word(j, "key"))
        (void)printf("  key %s\n", word(j, "key"));
    (void)printf("\nservers\n");
    servers_print(json_object_get(j, "servers"));
    (void)printf("\nwhat was done\n");
    steps_print(json_object_get(j, "peer"));
    steps_print(json_object_get(j, "steps"));
    nats_print(j);
    attempts_print(json_object_get(j, "attempts"));
    if (json_array_size(json_object_get(j, "attempts")) == 0)
        tries_print(json_object_get(j, "tries"));
    path_print(j);
    advice_print(json_object_get(j, "advice"));
}

int why_peer(const char *subject, bool as_json)
{
    const struct rendezvous where = {.count = 0};
    struct peerd_ask a;
    char *text = NULL;
    peerd_begin(&a, "why");
    peerd_arg(&a, "target", subject);
    peerd_servers(&a, &where);
    int status = peerd_run("why", &a, true, &text);
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    if (status == CLI_OK && !j)
        status = cli_fail("why", "berth-peer's answer makes no sense");
    if (j && as_json) {
        (void)json_dumpf(j, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    } else if (j) {
        print(subject, j);
    }
    if (status == CLI_OK && !json_is_true(json_object_get(j, "works")))
        status = CLI_TROUBLE;
    json_decref(j);
    free(text);
    peerd_end(&a);
    return status;
}

int why_network(bool as_json)
{
    struct peerd_ask a;
    char *text = NULL;
    CLEANUP_FD int fd = daemon_peer_connect(false);
    if (fd < 0)
        return cli_usage("why", "which port? (without one, and while berth-peer runs, it tells of "
                                "this network)");
    peerd_begin(&a, "network");
    int status = peerd_send(&a, fd, -EBADF, &text) == 0
                     ? CLI_OK
                     : cli_fail("why", "%s", a.reason ? a.reason : "berth-peer does not answer");
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    if (j && as_json) {
        (void)json_dumpf(j, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    } else if (j) {
        (void)printf("servers\n");
        servers_print(json_object_get(j, "servers"));
        nats_print(j);
        advice_print(json_object_get(j, "advice"));
    }
    json_decref(j);
    free(text);
    peerd_end(&a);
    return status;
}
