/* Candidates of RFC 8445: which addresses are any use, and the order of lists and pairs. Pure. */
#include "punch/candidate.h"

static const struct {
    uint8_t preference;
    const char *word;
} kinds[CANDIDATE_KIND_END] = {
    /* RFC 8445 5.1.2.2: 126 for host, 110 for peer-reflexive, 100 for server-reflexive, 0 for
     * relayed. A mapped port is reflexive, but lets everybody in. */
    [CANDIDATE_HOST] = {126, "host"},     [CANDIDATE_REFLEXIVE] = {100, "server-reflexive"},
    [CANDIDATE_MAPPED] = {105, "mapped"}, [CANDIDATE_PEER_REFLEXIVE] = {110, "peer-reflexive"},
    [CANDIDATE_RELAYED] = {0, "relayed"}, [CANDIDATE_GUESSED] = {90, "guessed"},
};

static bool ip_is(const struct addr *a, const char *text)
{
    struct prefix p;
    return prefix_parse(str_of(text), &p) == 0 && prefix_matches(&p, a);
}

static bool ip_is_any_of(const struct addr *a, const char *const *texts)
{
    for (; *texts; texts++)
        if (ip_is(a, *texts))
            return true;
    return false;
}

bool candidate_is_usable(const struct addr *a)
{
    /* RFC 8445 5.1.1.1: no loopback; link-local addresses need a zone that is the sender's own. */
    static const char *const useless[] = {"0.0.0.0/8",   "127.0.0.0/8", "169.254.0.0/16",
                                          "224.0.0.0/3", "::/128",      "::1/128",
                                          "fe80::/10",   "ff00::/8",    NULL};
    if (a->sa.sa_family != AF_INET && a->sa.sa_family != AF_INET6)
        return false;
    return addr_port(a) != 0 && !ip_is_any_of(a, useless);
}

bool candidate_is_public(const struct addr *a)
{
    static const char *const inner[] = {"10.0.0.0/8",    "172.16.0.0/12", "192.168.0.0/16",
                                        "100.64.0.0/10", "fc00::/7",      NULL};
    return candidate_is_usable(a) && !ip_is_any_of(a, inner);
}

bool candidate_same_ip(const struct addr *a, const struct addr *b)
{
    struct addr c = *a;
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    addr_set_port(&c, addr_port(b));
    return addr_equal(&c, b);
}

uint32_t candidate_priority(enum candidate_kind kind, const struct addr *a, unsigned place)
{
    /* RFC 8445 5.1.2.1: priority = 2^24 * type preference + 2^8 * local preference + 256 -
     * component. RFC 8421 4: IPv6 before IPv4. */
    uint32_t local = (a->sa.sa_family == AF_INET6 ? 65535 : 32767) - (place & 0x7f);
    return (uint32_t)kinds[kind].preference << 24 | local << 8 | 255;
}

uint64_t candidate_pair_priority(uint32_t g, uint32_t d)
{
    /* RFC 8445 6.1.2.3: 2^32 * MIN(G,D) + 2 * MAX(G,D) + (G>D ? 1 : 0). */
    uint64_t low = g < d ? g : d, high = g < d ? d : g;
    return (low << 32) + 2 * high + (g > d ? 1 : 0);
}

const char *candidate_kind_word(enum candidate_kind kind)
{
    return kind > 0 && kind < CANDIDATE_KIND_END ? kinds[kind].word : "unknown";
}

static size_t least_of(const struct candidates *list)
{
    size_t least = 0;
    for (size_t i = 1; i < list->count; i++)
        if (list->at[i].priority < list->at[least].priority)
            least = i;
    return least;
}

bool candidates_add(struct candidates *list, enum candidate_kind kind,
                    enum candidate_transport transport, const struct addr *a)
{
    unsigned place = 0;
    if (kind < CANDIDATE_HOST || kind >= CANDIDATE_KIND_END || !candidate_is_usable(a))
        return false;
    for (size_t i = 0; i < list->count; i++) {
        if (list->at[i].transport == transport && addr_equal(&list->at[i].addr, a))
            return false;
        place += list->at[i].kind == kind;
    }
    struct candidate c = {kind, transport, *a, candidate_priority(kind, a, place)};
    size_t at = list->count < CANDIDATES_MAX ? list->count++ : least_of(list);
    if (list->at[at].priority > c.priority)
        return false;
    list->at[at] = c;
    return true;
}
