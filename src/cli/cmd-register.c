/* berth register: keeps this user's signed record at rendezvous servers. Options come in; it runs
 * until it is told to end. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/peer.h"

/* A record is signed anew at half its time. */
#define VALID_S (24 * 3600)
/* Between attempts at a server that does not answer, or refuses. */
#define RETRY_MS 5000

static const char help[] =
    "usage: berth register --rendezvous HOST:PORT [--service NAME[=PORT]]... [--address "
    "ADDRESS]...\n"
    "\n"
    "Registers this user's key at a rendezvous server, with a signed record of what it offers, and "
    "keeps it\n"
    "registered until it is interrupted. `berth lookup` shows the record to whoever asks.\n"
    "\n"
    "It is a directory entry: it opens no port and no way through a NAT or firewall.\n"
    "\n"
    "  --service NAME[=PORT]   a service, with its TCP port (or udp:PORT) at the addresses\n"
    "  --address ADDRESS       where this peer is reached; none is shown that is not given here\n"
    "  --once                  for one lease only, then end\n"
    "  --rendezvous HOST:PORT  the server; several times: all of them (else $BERTH_RENDEZVOUS)\n";

struct registration {
    const char *server;
    struct client client; /* open while `registered` */
    bool registered, told;
    uint64_t sequence; /* of the record that is there */
    uint8_t token[RDVMSG_COOKIE];
    uint64_t at_ms; /* when to ask again */
};

struct registrar {
    struct identity id;
    struct record record;
    uint8_t bytes[RECORD_MAX];
    size_t size;
    uint64_t sign_at_s;
    struct rendezvous where;
    struct registration at[RENDEZVOUS_MAX];
    bool once;
};

/* Milliseconds since 1970 grow from run to run without a file to keep them in. */
static int sign(struct registrar *g, uint64_t above)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t sequence = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    g->record.sequence = sequence > above ? sequence : above + 1;
    g->record.not_after = (uint64_t)now.tv_sec + VALID_S;
    g->sign_at_s = (uint64_t)now.tv_sec + VALID_S / 2;
    int n = signed_record_make(&g->id, &g->record, g->bytes);
    if (n < 0)
        return cli_fail("register", "that is more than a record can hold");
    g->size = (size_t)n;
    return CLI_OK;
}

static int ask_once(struct registrar *g, struct registration *at, struct rdvmsg *answer)
{
    return client_register(&at->client, &g->id, (struct str){(const char *)g->bytes, g->size},
                           answer);
}

/* A server that knows a later record of this key gets one that is later still. */
static int ask(struct registrar *g, struct registration *at, struct rdvmsg *answer)
{
    int r = client_open(&at->client, at->server);
    if (r == 0)
        r = ask_once(g, at, answer);
    bool older = r == 0 && answer->type == RDVMSG_ERROR &&
                 (answer->reason == RDV_REPLAYED || answer->reason == RDV_SEQUENCE_REUSED);
    if (!older || sign(g, answer->number) != CLI_OK)
        return r;
    return ask_once(g, at, answer);
}

static void accepted(struct registrar *g, struct registration *at, const struct rdvmsg *answer)
{
    char key[KEY_TEXT_MAX], seen[ADDR_TEXT_MAX];
    memcpy(at->token, answer->token, sizeof at->token);
    at->at_ms = clock_now_ms() + (uint64_t)answer->refresh_s * 1000;
    at->registered = true;
    at->sequence = g->record.sequence;
    if (at->told)
        return;
    at->told = true;
    (void)printf("registered %s at %s, which sees it at %s over %s\n", key_format(&g->id.key, key),
                 at->server, addr_format(&at->client.seen, seen), at->client.tcp ? "TCP" : "UDP");
    (void)fflush(stdout);
}

static int enter(struct registrar *g, struct registration *at)
{
    struct rdvmsg answer = {.type = RDVMSG_ERROR};
    int status = CLI_OK, r = ask(g, at, &answer);
    if (r == 0 && answer.type == RDVMSG_REGISTERED) {
        accepted(g, at, &answer);
        return CLI_OK;
    }
    /* Said once until it works again. */
    if (at->told || at->at_ms == 0)
        status = r < 0 ? peer_unreachable("register", at->server, r)
                       : peer_refused("register", at->server, &answer);
    at->told = false;
    at->at_ms = clock_now_ms() + RETRY_MS;
    client_close(&at->client);
    return status == CLI_OK ? CLI_TROUBLE : status;
}

/* The token keeps the lease; where it does not, we enter again with a signature. */
static void stay(struct registrar *g, struct registration *at)
{
    struct rdvmsg answer;
    if (at->sequence == g->record.sequence &&
        client_refresh(&at->client, &g->id.key, at->token, &answer) == 0 &&
        answer.type == RDVMSG_REFRESHED) {
        accepted(g, at, &answer);
        return;
    }
    at->registered = false;
    client_close(&at->client);
    (void)enter(g, at);
}

static int all_once(struct registrar *g)
{
    int status = CLI_OK;
    for (size_t i = 0; i < g->where.count; i++) {
        int s = enter(g, &g->at[i]);
        status = s != CLI_OK ? s : status;
    }
    return status;
}

static uint64_t next_ms(const struct registrar *g)
{
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < g->where.count; i++)
        next = g->at[i].at_ms < next ? g->at[i].at_ms : next;
    return next;
}

static void due_run(struct registrar *g)
{
    if ((uint64_t)time(NULL) >= g->sign_at_s)
        (void)sign(g, g->record.sequence);
    for (size_t i = 0; i < g->where.count; i++) {
        struct registration *at = &g->at[i];
        if (at->at_ms > clock_now_ms())
            continue;
        if (at->registered)
            stay(g, at);
        else
            (void)enter(g, at);
    }
}

static int run(struct registrar *g)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    int status = all_once(g);
    if (g->once)
        return status;
    for (;;) {
        uint64_t now = clock_now_ms(), next = next_ms(g), wait = next > now ? next - now : 0;
        const struct timespec ts = {(time_t)(wait / 1000), (long)(wait % 1000) * 1000000 + 1000000};
        if (sigtimedwait(&set, NULL, &ts) > 0)
            return CLI_OK;
        due_run(g);
    }
}

static int service_add(struct record *r, const char *text)
{
    const char *equals = strchr(text, '='), *port = equals ? equals + 1 : NULL;
    struct record_service s = {.name = {text, equals ? (size_t)(equals - text) : strlen(text)},
                               .transport = RECORD_TCP};
    char *end = NULL;
    if (port && strncmp(port, "udp:", 4) == 0) {
        s.transport = RECORD_UDP;
        port += 4;
    }
    unsigned long v = port && ascii_is_digit(*port) ? strtoul(port, &end, 10) : 0;
    if (!record_name_valid(s.name) || (port && (!end || *end || v == 0 || v > UINT16_MAX)))
        return cli_usage("register", "--service takes NAME, NAME=PORT or NAME=udp:PORT, not '%s'",
                         text);
    if (r->service_count == RECORD_SERVICES_MAX)
        return cli_usage("register", "more than %d services", RECORD_SERVICES_MAX);
    s.port = (uint16_t)v;
    r->services[r->service_count++] = s;
    return CLI_OK;
}

static int address_add(struct record *r, const char *text)
{
    struct prefix p;
    bool plain = !strchr(text, '/') && prefix_parse(str_of(text), &p) == 0;
    if (!plain)
        return cli_usage("register", "--address takes an IPv4 or IPv6 address, not '%s'", text);
    if (r->candidate_count == RECORD_CANDIDATES_MAX)
        return cli_usage("register", "more than %d addresses", RECORD_CANDIDATES_MAX);
    r->candidates[r->candidate_count++] = (struct record_candidate){
        .kind = RECORD_HOST, .transport = RECORD_TCP, .addr = addr_make(p.family, p.ip, 0)};
    return CLI_OK;
}

static int option_take(void *ctx, int c)
{
    struct registrar *g = ctx;
    switch (c) {
    case 'r':
        return peer_server_add("register", &g->where, optarg);
    case 's':
        return service_add(&g->record, optarg);
    case 'a':
        return address_add(&g->record, optarg);
    case 'o':
        g->once = true;
        return CLI_OK;
    default:
        return CLI_USAGE;
    }
}

int cmd_register(int argc, char **argv)
{
    static const struct option options[] = {{"rendezvous", required_argument, NULL, 'r'},
                                            {"service", required_argument, NULL, 's'},
                                            {"address", required_argument, NULL, 'a'},
                                            {"once", no_argument, NULL, 'o'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct registrar g = {.once = false};
    const struct cli_options taken = {"register", help, "", options};
    int status = cli_options(&taken, argc, argv, option_take, &g);
    if (status == CLI_OK && optind < argc)
        status = cli_usage("register", "unexpected argument '%s'", argv[optind]);
    if (status == CLI_OK)
        status = peer_servers("register", &g.where);
    if (status == CLI_OK)
        status = peer_start("register");
    if (status == CLI_OK)
        status = peer_identity("register", &g.id);
    for (size_t i = 0; i < g.where.count; i++) {
        g.at[i].server = g.where.servers[i];
        g.at[i].client.fd = -EBADF;
    }
    if (status == CLI_OK)
        status = sign(&g, 0);
    if (status == CLI_OK)
        status = run(&g);
    for (size_t i = 0; i < g.where.count; i++)
        client_close(&g.at[i].client);
    identity_wipe(&g.id);
    return status;
}
