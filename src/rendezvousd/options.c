/* What stands behind berth-rendezvous on the command line. Words come in, a struct goes out, and
 * complaints go to standard error. */
#include "rendezvousd/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#ifndef BERTH_VERSION
#define BERTH_VERSION "0"
#endif

static const char usage[] =
    "Usage: berth-rendezvous --listen ADDRESS:PORT --state DIR [OPTION]...\n"
    "Keeps the registry of peers: their signed records while they are there, and who holds which\n"
    "name for good. Introduces peers that call each other, and relays what they send while they "
    "do\n"
    "not reach each other. Answers STUN on the same UDP port, and the same protocol over TCP and\n"
    "TLS.\n"
    "\n"
    "  --listen ADDRESS:PORT   for UDP and TCP; may be given several times\n"
    "  --state DIR             where names.db and key are kept; made when it is not there\n"
    "  --registry redis://[USER:PASSWORD@]HOST[:PORT][/DB], or "
    "unix://[USER:PASSWORD@]PATH[?db=DB]\n"
    "                          names and leases are kept in this Redis, which several servers "
    "share\n"
    "  --advertise HOST:PORT   where peers of the other servers reach this one\n"
    "  --show-key              print the server's key, and end\n"
    "  --stun-other ADDRESS:PORT  a second address of this host and a second port, so that clients "
    "can\n"
    "                          find out how their NAT behaves (RFC 5780)\n"
    "  --threads N             threads that serve (default: one per processor)\n"
    "  --lease SECONDS         how long a peer that is silent stays registered (default 90)\n"
    "  --peers-max N           at most so many peers (default 2000000)\n"
    "  --names-max N           at most so many names (default 1000000)\n"
    "  --rate N                registrations and claims a second from one address, for each "
    "thread\n"
    "                          (default 50; 0: no limit), and as many calls\n"
    "  --relay-pairs N         calls and relayed pairs at a time (default 100000)\n"
    "  --relay-pairs-key N     of them with the same caller (default 256)\n"
    "  --relay-rate KIB        KiB a second that are relayed for one caller (default 16384; 0: no "
    "limit)\n"
    "  --relay-rate-all KIB    the same for all (default 0)\n"
    "  --log LEVEL             error, warn, info or debug (default info)\n"
    "  --help, --version\n"
    "\n"
    "As root it becomes the user who owns DIR (nobody where that is root), with DIR as its root\n"
    "folder. SIGUSR1 logs the counters. After SIGUSR2 it takes no new calls and ends when the "
    "last\n"
    "pair has ended.\n";

enum {
    OPT_LISTEN = 1,
    OPT_STATE,
    OPT_REGISTRY,
    OPT_ADVERTISE,
    OPT_OTHER,
    OPT_THREADS,
    OPT_LEASE,
    OPT_PEERS,
    OPT_NAMES,
    OPT_RATE,
    OPT_PAIRS,
    OPT_PAIRS_KEY,
    OPT_RELAY_RATE,
    OPT_RELAY_ALL,
    OPT_SHOW,
    OPT_LOG,
    OPT_HELP,
    OPT_VERSION
};

static const struct option long_options[] = {
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"state", required_argument, NULL, OPT_STATE},
    {"registry", required_argument, NULL, OPT_REGISTRY},
    {"advertise", required_argument, NULL, OPT_ADVERTISE},
    {"stun-other", required_argument, NULL, OPT_OTHER},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"lease", required_argument, NULL, OPT_LEASE},
    {"peers-max", required_argument, NULL, OPT_PEERS},
    {"names-max", required_argument, NULL, OPT_NAMES},
    {"rate", required_argument, NULL, OPT_RATE},
    {"relay-pairs", required_argument, NULL, OPT_PAIRS},
    {"relay-pairs-key", required_argument, NULL, OPT_PAIRS_KEY},
    {"relay-rate", required_argument, NULL, OPT_RELAY_RATE},
    {"relay-rate-all", required_argument, NULL, OPT_RELAY_ALL},
    {"show-key", no_argument, NULL, OPT_SHOW},
    {"log", required_argument, NULL, OPT_LOG},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0}};

static int complain(const char *format, const char *what)
{
    (void)fputs("berth-rendezvous: ", stderr);
    (void)fprintf(stderr, format, what);
    (void)fputs("\nTry `berth-rendezvous --help`.\n", stderr);
    return -EINVAL;
}

static int number(const char *text, size_t min, size_t max, size_t *ret)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (!ascii_is_digit(text[0]) || *end || errno || v < min || v > max) {
        (void)fprintf(stderr, "berth-rendezvous: a number from %zu to %zu is wanted, not '%s'\n",
                      min, max, text);
        return -EINVAL;
    }
    *ret = (size_t)v;
    return 0;
}

static int number32(const char *text, size_t min, size_t max, uint32_t *ret)
{
    size_t v = 0;
    int r = number(text, min, max, &v);
    if (r == 0)
        *ret = (uint32_t)v;
    return r;
}

static int address_read(const char *text, struct addr *ret_addr)
{
    struct addr a;
    if (addr_parse(text, &a) < 0 || (a.sa.sa_family != AF_INET && a.sa.sa_family != AF_INET6))
        return complain("ADDRESS:PORT, such as 0.0.0.0:3478 or [::]:3478, is wanted, not '%s'",
                        text);
    *ret_addr = a;
    return 0;
}

static int listen_add(struct options *o, const char *text)
{
    struct addr a;
    int r = address_read(text, &a);
    if (r < 0)
        return r;
    if (o->listen_count == LISTENS_MAX)
        return complain("%s is one address too many", text);
    o->listens[o->listen_count++] = a;
    return 0;
}

static int log_set(const char *word)
{
    int level = log_level_parse(word);
    if (level < 0)
        return complain("--log takes error, warn, info or debug, not '%s'", word);
    log_init("berth-rendezvous", (enum log_level)level);
    return 0;
}

static int kib(const char *text, uint64_t *ret_bytes)
{
    size_t v = 0;
    int r = number(text, 0, (size_t)1 << 30, &v);
    if (r == 0)
        *ret_bytes = (uint64_t)v << 10;
    return r;
}

/* 0: go on; 1: done; negative: usage. */
static int relay_option_take(struct options *o, int c, const char *value)
{
    switch (c) {
    case OPT_PAIRS:
        return number(value, 0, RELAY_PAIRS_MAX, &o->relay.pairs);
    case OPT_PAIRS_KEY:
        return number(value, 1, RELAY_PAIRS_MAX, &o->relay.pairs_key);
    case OPT_RELAY_RATE:
        return kib(value, &o->relay.rate_key);
    case OPT_RELAY_ALL:
        return kib(value, &o->relay.rate_all);
    default:
        return -EINVAL;
    }
}

/* The password is not to be seen in the list of processes. */
static int registry_read(char *text, struct redis_target *ret_target)
{
    int r = redis_target_parse(text, ret_target);
    memset(text, '*', strlen(text));
    return r < 0 ? complain("%s is wanted behind --registry", "redis://HOST:PORT or unix://PATH")
                 : 0;
}

static int advertise_read(const char *text, struct addr *ret_addr)
{
    return nodes_advertise(text, ret_addr) < 0
               ? complain("--advertise takes HOST:PORT, where this server is reached, not '%s'",
                          text)
               : 0;
}

/* 0: go on; 1: done; negative: usage. */
static int option_take(struct options *o, int c, char *value)
{
    switch (c) {
    case OPT_LISTEN:
        return listen_add(o, value);
    case OPT_REGISTRY:
        return registry_read(value, &o->redis);
    case OPT_ADVERTISE:
        return advertise_read(value, &o->advertised);
    case OPT_OTHER:
        return address_read(value, &o->stun_other);
    case OPT_STATE:
        o->state = value;
        return 0;
    case OPT_THREADS:
        return number(value, 1, THREADS_MAX, &o->threads);
    case OPT_LEASE:
        return number32(value, 1, 3600, &o->lease_s);
    case OPT_PEERS:
        return number(value, 1, (size_t)1 << 32, &o->peers_max);
    case OPT_NAMES:
        return number(value, 1, (size_t)1 << 32, &o->names_max);
    case OPT_RATE:
        return number32(value, 0, 100000, &o->rate);
    case OPT_SHOW:
        o->show_key = true;
        return 0;
    case OPT_LOG:
        return log_set(value);
    case OPT_HELP:
        (void)fputs(usage, stdout);
        return 1;
    case OPT_VERSION:
        (void)puts("berth-rendezvous " BERTH_VERSION);
        return 1;
    default:
        return relay_option_take(o, c, value);
    }
}

/* RFC 5780 6: two addresses and two ports, and answers that leave from exactly one of them. */
static int stun_check(const struct options *o)
{
    const struct addr *a = &o->listens[0], *b = &o->stun_other;
    if (b->len == 0)
        return 0;
    bool same_port = addr_port(a) != 0 && addr_port(a) == addr_port(b);
    struct addr moved = *b;
    addr_set_port(&moved, addr_port(a));
    if (a->sa.sa_family != b->sa.sa_family || addr_is_wildcard(a) || addr_is_wildcard(b) ||
        same_port || addr_equal(a, &moved))
        return complain("--stun-other takes another address and %s than the first --listen, "
                        "neither of them a wildcard",
                        "another port");
    return 0;
}

int options_read(int argc, char **argv, struct options *o)
{
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        int r = option_take(o, c, optarg);
        if (r != 0)
            return r;
    }
    if (optind < argc)
        return complain("unexpected argument '%s'", argv[optind]);
    if (o->listen_count == 0 && !o->show_key)
        return complain("%s is missing", "--listen ADDRESS:PORT");
    if (!o->state)
        return complain("%s is missing", "--state DIR");
    if (o->redis.host[0] && o->advertised.len == 0 && addr_is_wildcard(&o->listens[0]))
        return complain("--registry wants %s, too, where --listen is a wildcard", "--advertise");
    return stun_check(o);
}
