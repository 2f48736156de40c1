/* How a peer is reached: what berth-peer did, step by step, and which way packets take now. */
#include "cli/why-peer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
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
    tries_print(json_object_get(j, "tries"));
    path_print(j);
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
