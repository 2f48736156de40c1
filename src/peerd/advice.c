/* Facts become flags, and a table says which sentence needs which flags. A sentence has places:
 * {port}, {gateway} and {external}. */
#include "peerd/advice.h"

#include <stdio.h>
#include <string.h>

/* Words ---------------------------------------------------------------------------------------- */

static const char *const mapping_words[NAT_MAPPING_END] = {
    [NAT_MAPPING_UNKNOWN] = "not known",
    [NAT_MAPPING_NONE] = "no NAT",
    [NAT_MAPPING_EIM] = "one port for everybody",
    [NAT_MAPPING_ADM] = "another port for each address",
    [NAT_MAPPING_APDM] = "another port for each address and port",
    [NAT_MAPPING_BLOCKED] = "no UDP passes",
};
static const char *const filtering_words[] = {
    [NAT_FILTERING_UNKNOWN] = "",
    [NAT_FILTERING_EIF] = "; lets everybody in",
    [NAT_FILTERING_ADF] = "; lets in addresses that were written to",
    [NAT_FILTERING_APDF] = "; lets in only who was written to",
};

static void allocation_describe(const struct nat *nat, char *buf, size_t size)
{
    buf[0] = 0;
    if (nat->allocation == NAT_ALLOCATION_KEEP)
        (void)snprintf(buf, size, ", the same as inside where it is free");
    else if (nat->allocation == NAT_ALLOCATION_SEQUENCE)
        (void)snprintf(buf, size, ", one after the other (%+d)", nat->delta);
    else if (nat->allocation == NAT_ALLOCATION_RANDOM)
        (void)snprintf(buf, size, ", at random");
    else if (nat->allocation == NAT_ALLOCATION_BLOCK)
        (void)snprintf(buf, size, ", at random in a block of %d", nat->delta);
}

const char *nat_describe(const struct nat *nat, char buf[NAT_WORDS_MAX])
{
    char allocation[64];
    bool has = nat->mapping == NAT_MAPPING_EIM || nat->mapping == NAT_MAPPING_ADM ||
               nat->mapping == NAT_MAPPING_APDM;
    bool filters = has || nat->mapping == NAT_MAPPING_NONE;
    allocation_describe(nat, allocation, sizeof allocation);
    (void)snprintf(buf, NAT_WORDS_MAX, "%s%s%s%s", mapping_words[nat->mapping],
                   has ? allocation : "", filters ? filtering_words[nat->filtering] : "",
                   nat_is_symmetric(nat) ? " (symmetric)" : "");
    return buf;
}

const char *plan_describe(enum guess_plan plan)
{
    static const char *const words[GUESS_PLAN_END] = {
        [GUESS_NOTHING] = "the addresses that are known are checked",
        [GUESS_PREDICT] = "the next ports of the other side's NAT are tried, too",
        [GUESS_LOCKSTEP] = "both sides try the next ports of the other's NAT, in the same order",
        [GUESS_PROBE] = "random ports of the other side's NAT are tried, too",
        [GUESS_SOCKETS] = "many ports are opened here, for the other side to find one",
        [GUESS_HOPELESS] = "no port can be guessed: the addresses that are known are checked",
    };
    return plan < GUESS_PLAN_END ? words[plan] : "";
}

/* Advice --------------------------------------------------------------------------------------- */

enum {
    PEER = 1 << 0,  /* it is about a peer */
    STUCK = 1 << 1, /* there is a session, and it cannot go directly over UDP */
    RELAYED = 1 << 2,
    OWN_BLOCKED = 1 << 3,
    PEER_BLOCKED = 1 << 4,
    OWN_SYMMETRIC = 1 << 5,
    PEER_SYMMETRIC = 1 << 6,
    WANTS_MAP = 1 << 7, /* a mapped port here would help */
    PEER_MAPS = 1 << 8,
    OWN_V6 = 1 << 9,
    PEER_V6 = 1 << 10,
    ONE_WAY = 1 << 11,
    NO_ANSWER = 1 << 12,
    GUESSED_OUT = 1 << 13,
    MAP_OFF = 1 << 14,
    MAP_NO_GATEWAY = 1 << 15,
    MAP_MAPPED = 1 << 16,
    MAP_USELESS = 1 << 17,
    MAP_REFUSED = 1 << 18,
    MAP_SILENT = 1 << 19,
    OWN_UNKNOWN = 1 << 20, /* servers could not tell what the own NAT does */
    FORBIDDEN = 1 << 21,   /* a port would have had to be guessed, and was not */
};
#define BLOCKED (OWN_BLOCKED | PEER_BLOCKED)
#define MAPPED  (MAP_MAPPED | PEER_MAPS)

struct rule {
    unsigned need, without;
    const char *word, *text;
};

static const struct rule rules[] = {
    {OWN_BLOCKED, 0, "AllowUdpHere",
     "UDP does not pass here: allow UDP to and from port {port} of this machine"},
    {STUCK | PEER_BLOCKED, 0, "AllowUdpThere",
     "UDP does not pass at the other side: allow it there"},
    {STUCK | OWN_SYMMETRIC | PEER_SYMMETRIC | MAP_USELESS, BLOCKED | MAPPED, "CarrierSymmetric",
     "your carrier's NAT is symmetric, and so is the other side's NAT: the relay will be used"},
    {STUCK | OWN_SYMMETRIC | PEER_SYMMETRIC, BLOCKED | MAPPED | MAP_USELESS, "BothSymmetric",
     "both NATs are symmetric: the relay will be used unless one of the routers maps a port"},
    {OWN_UNKNOWN, BLOCKED, "SecondAddress",
     "the server has one address only, which does not show what a NAT does, so no port is guessed: "
     "start berth-rendezvous with --stun-other"},
    {WANTS_MAP | MAP_SILENT, 0, "EnablePortMapping",
     "enable NAT-PMP, PCP or UPnP on {gateway}: a port that the router maps can be reached from "
     "everywhere"},
    {WANTS_MAP | MAP_REFUSED, 0, "AllowPortMapping",
     "{gateway} refuses to map a port: allow it for this machine, or forward UDP and TCP port "
     "{port} to it"},
    {WANTS_MAP | MAP_USELESS, 0, "CarrierNat",
     "{gateway} maps ports, but is itself behind a NAT (it maps to {external}): ask the carrier "
     "for a public address, or for IPv6"},
    {WANTS_MAP | MAP_OFF, 0, "AskTheRouter",
     "start berth-peer without --no-port-mapping: it asks the router for a port then"},
    {WANTS_MAP | MAP_NO_GATEWAY, 0, "NoGateway",
     "there is no default route of IPv4 that shows which router could map a port"},
    {STUCK | MAP_MAPPED, OWN_BLOCKED | PEER_BLOCKED, "MappedPortIsClosed",
     "{gateway} has mapped {external}, but nothing came through it: allow UDP to port {port} of "
     "this machine"},
    {STUCK | FORBIDDEN, MAPPED, "AllowGuessing",
     "a port would have to be guessed, and one side does not let that be: start its berth-peer "
     "without --no-guessing"},
    {STUCK | PEER_SYMMETRIC, PEER_MAPS | PEER_BLOCKED, "EnablePortMappingThere",
     "the other side's router: enable NAT-PMP, PCP or UPnP on it"},
    {STUCK | ONE_WAY, PEER_BLOCKED, "FirewallThere",
     "a firewall at the other side drops what comes from here: allow UDP to its berth-peer there"},
    {STUCK | NO_ANSWER, BLOCKED | FORBIDDEN, "OpenPort",
     "a firewall drops UDP on the way: allow UDP to port {port} of this machine, or do the same at "
     "the other side"},
    {STUCK | GUESSED_OUT, BLOCKED, "TryAgain",
     "guessing a port fails now and then, and is tried again by itself"},
    {STUCK | RELAYED | OWN_V6 | PEER_V6, BLOCKED, "AllowIpv6",
     "both sides have IPv6, and a firewall drops it: allow UDP to port {port} over IPv6"},
    {STUCK | RELAYED | OWN_V6, PEER_V6, "UseIpv6", "IPv6 would do: the other side has none"},
    {STUCK | RELAYED | PEER_V6, OWN_V6, "UseIpv6", "IPv6 would do: this machine has none"},
    {STUCK | RELAYED, OWN_V6 | PEER_V6, "UseIpv6", "IPv6 would do: neither side has it"},
};

static unsigned reason_flag(enum punch_reason reason)
{
    switch (reason) {
    case PUNCH_ONE_WAY:
        return ONE_WAY;
    case PUNCH_NO_ANSWER:
        return NO_ANSWER;
    case PUNCH_GUESSED_OUT:
        return GUESSED_OUT;
    default:
        return 0;
    }
}

static bool is_behind_nat(const struct nat *nat)
{
    return nat->mapping == NAT_MAPPING_EIM || nat->mapping == NAT_MAPPING_ADM ||
           nat->mapping == NAT_MAPPING_APDM;
}

static bool wants_guess(const struct advice_facts *f)
{
    enum guess_plan plan = guess_plan(&f->own, &f->peer);
    return plan != GUESS_NOTHING && plan != GUESS_HOPELESS;
}

static unsigned flags_of(const struct advice_facts *f)
{
    static const unsigned maps[ADVICE_MAP_END] = {
        [ADVICE_MAP_OFF] = MAP_OFF,         [ADVICE_MAP_NO_GATEWAY] = MAP_NO_GATEWAY,
        [ADVICE_MAP_MAPPED] = MAP_MAPPED,   [ADVICE_MAP_USELESS] = MAP_USELESS,
        [ADVICE_MAP_REFUSED] = MAP_REFUSED, [ADVICE_MAP_SILENT] = MAP_SILENT,
    };
    bool has = f->with_peer && (f->way == ADVICE_RELAY || f->way == ADVICE_TCP);
    bool stuck = has && (f->over || f->way == ADVICE_TCP);
    unsigned flags = maps[f->map] | reason_flag(f->reason);
    flags |= f->udp_blocked || f->own.mapping == NAT_MAPPING_BLOCKED ? OWN_BLOCKED : 0;
    flags |= nat_is_symmetric(&f->own) ? OWN_SYMMETRIC : 0;
    flags |= f->asked && f->own.mapping == NAT_MAPPING_UNKNOWN && (stuck || !f->with_peer)
                 ? OWN_UNKNOWN
                 : 0;
    bool hard = f->with_peer ? stuck : (flags & (OWN_SYMMETRIC | OWN_BLOCKED)) != 0;
    flags |= hard && (is_behind_nat(&f->own) || flags & OWN_BLOCKED) ? WANTS_MAP : 0;
    if (!f->with_peer)
        return flags;
    flags |= PEER | (stuck ? STUCK : 0) | (f->way == ADVICE_RELAY ? RELAYED : 0);
    flags |= f->peer.mapping == NAT_MAPPING_BLOCKED ? PEER_BLOCKED : 0;
    flags |= nat_is_symmetric(&f->peer) ? PEER_SYMMETRIC : 0;
    flags |= f->peer_maps ? PEER_MAPS : 0;
    flags |= f->no_guessing && wants_guess(f) ? FORBIDDEN : 0;
    return flags | (f->own_v6 ? OWN_V6 : 0) | (f->peer_v6 ? PEER_V6 : 0);
}

static const char *place_value(const struct advice_facts *f, struct str name, char port[8])
{
    (void)snprintf(port, 8, "%u", f->port);
    if (str_eq(name, STR("port")))
        return port;
    if (str_eq(name, STR("gateway")))
        return f->gateway && *f->gateway ? f->gateway : "the router";
    return f->external && *f->external ? f->external : "a port";
}

static void fill(const struct advice_facts *f, const char *text, char ret[ADVICE_TEXT])
{
    char port[8];
    size_t n = 0;
    ret[0] = 0;
    while (*text && n + 1 < ADVICE_TEXT) {
        const char *end = *text == '{' ? strchr(text, '}') : NULL;
        struct str name = {text + 1, end ? (size_t)(end - text - 1) : 0};
        int more = end ? snprintf(ret + n, ADVICE_TEXT - n, "%s", place_value(f, name, port))
                       : snprintf(ret + n, ADVICE_TEXT - n, "%c", *text);
        n += more > 0 ? (size_t)more : 0;
        text = end ? end + 1 : text + 1;
    }
}

size_t advice_give(const struct advice_facts *f, struct advice ret[ADVICE_MAX])
{
    unsigned flags = flags_of(f);
    size_t n = 0;
    for (size_t i = 0; i < sizeof rules / sizeof *rules && n < ADVICE_MAX; i++) {
        const struct rule *r = &rules[i];
        if ((flags & r->need) != r->need || flags & r->without)
            continue;
        ret[n].word = r->word;
        fill(f, r->text, ret[n++].text);
    }
    return n;
}
