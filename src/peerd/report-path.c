/* Gathers into JSON what is known of a path, and asks advice.c for the words. */
#include "peerd/report-path.h"

#include <arpa/inet.h>

#include "base/clock.h"
#include "peerd/advice.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"

static const char *const port_words[MAPPING_PORTS] = {"udp", "tcp"};

static const char *host_format(const struct addr *a, char buf[INET6_ADDRSTRLEN])
{
    buf[0] = 0;
    if (a->sa.sa_family == AF_INET)
        (void)inet_ntop(AF_INET, &a->v4.sin_addr, buf, INET6_ADDRSTRLEN);
    return buf;
}

static json_t *nat_json(const struct nat *nat)
{
    char text[NAT_TEXT_MAX], words[NAT_WORDS_MAX];
    return json_pack("{s:s, s:s, s:b}", "fingerprint", nat_format(nat, text), "words",
                     nat_describe(nat, words), "symmetric", nat_is_symmetric(nat));
}

/* Of the two ways the one that has an address. */
static const struct addr *external_of(const struct mapping *m, unsigned which,
                                      const char **ret_protocol)
{
    const struct mapping_port *p = &m->ports[which];
    const struct upnp_port *u = &m->upnp.ports[which];
    bool pcp = p->fd >= 0 && p->machine.external.len > 0 && addr_port(&p->machine.external);
    *ret_protocol = !pcp ? "upnp" : p->machine.version == PCP_NATPMP ? "nat-pmp" : "pcp";
    return pcp ? &p->machine.external : &u->external;
}

static json_t *port_json(const struct mapping *m, unsigned which)
{
    const char *protocol;
    const struct addr *a = external_of(m, which, &protocol);
    char text[ADDR_TEXT_MAX];
    json_t *j = json_pack("{s:s}", "state", portmap_state_word(mapping_state(m, which)));
    if (a->len == 0)
        return j;
    (void)json_object_set_new(j, "address", json_string(addr_format(a, text)));
    (void)json_object_set_new(j, "by", json_string(protocol));
    return j;
}

static json_t *mapping_json(const struct mapping *m)
{
    char host[INET6_ADDRSTRLEN];
    json_t *j = json_pack("{s:s}", "state", mapping_word(m));
    if (m->gateway.len)
        (void)json_object_set_new(j, "router", json_string(host_format(&m->gateway, host)));
    for (unsigned i = 0; m->stage == MAPPING_ASKED && i < MAPPING_PORTS; i++)
        (void)json_object_set_new(j, port_words[i], port_json(m, i));
    return j;
}

json_t *report_here(struct peerd *p)
{
    struct nat nat = gathering_nat(&p->net.gathering);
    if (net_udp_blocked(&p->net))
        nat.mapping = NAT_MAPPING_BLOCKED;
    return json_pack("{s:i, s:o, s:o}", "port", (int)p->net.udp.port, "nat", nat_json(&nat),
                     "port_mapping", mapping_json(&p->net.mapping));
}

/* The other side ---------------------------------------------------------------------------------
 */

json_t *report_there(struct remote *r)
{
    const struct attempt *t = r->attempts.at[0];
    return t ? json_pack("{s:o, s:b}", "nat", nat_json(&t->peer), "mapped", t->peer_maps) : NULL;
}

/* Attempts ---------------------------------------------------------------------------------------
 */

static json_t *pair_json(const struct attempt_pair *p)
{
    char text[ADDR_TEXT_MAX];
    json_t *j = json_pack("{s:s, s:s, s:s, s:i, s:i, s:b}", "address", addr_format(&p->addr, text),
                          "transport", p->transport == CANDIDATE_TCP ? "tcp" : "udp", "kind",
                          candidate_kind_word(p->kind), "sent", (int)p->sent, "heard",
                          (int)p->heard, "proven", p->proven);
    if (p->err && !p->proven)
        (void)json_object_set_new(j, "error", json_string(strerror(-p->err)));
    return j;
}

/* The check machine knows nothing of TCP. */
static enum technique technique_of(const struct attempt *t)
{
    for (size_t i = 0; i < t->count && t->technique == TECHNIQUE_UNKNOWN; i++)
        if (t->pairs[i].proven && t->pairs[i].transport == CANDIDATE_TCP)
            return TECHNIQUE_TCP;
    return t->technique;
}

static json_t *attempt_json(const struct attempt *t)
{
    json_t *pairs = json_array();
    bool found = false;
    for (size_t i = 0; i < t->count; i++) {
        (void)json_array_append_new(pairs, pair_json(&t->pairs[i]));
        found |= t->pairs[i].proven;
    }
    json_t *j =
        json_pack("{s:I, s:b, s:s, s:s, s:s, s:i, s:o}", "age_ms",
                  (json_int_t)(clock_now_ms() - t->begun_ms), "caller", t->role == PUNCHING_CALLER,
                  "plan", guess_plan_word(t->plan), "doing", plan_describe(t->plan), "result",
                  found        ? "found"
                  : t->running ? "running"
                               : "failed",
                  "guesses", (int)t->guesses, "pairs", pairs);
    enum technique technique = technique_of(t);
    if (technique != TECHNIQUE_UNKNOWN)
        (void)json_object_set_new(j, "technique", json_string(technique_word(technique)));
    if (!found && !t->running && t->reason != PUNCH_NO_REASON)
        (void)json_object_set_new(j, "reason", json_string(punch_reason_sentence(t->reason)));
    return j;
}

json_t *report_attempts(struct remote *r)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < PUNCHING_ROLES; i++)
        attempt_checks(r, i);
    for (size_t i = 0; i < ATTEMPTS_KEPT; i++)
        if (r->attempts.at[i])
            (void)json_array_append_new(list, attempt_json(r->attempts.at[i]));
    return list;
}

/* Advice -----------------------------------------------------------------------------------------
 */

static enum advice_map map_of(const struct mapping *m)
{
    static const enum advice_map by_stage[] = {[MAPPING_OFF] = ADVICE_MAP_OFF,
                                               [MAPPING_WAITING] = ADVICE_MAP_NOTHING,
                                               [MAPPING_NO_NAT] = ADVICE_MAP_NOTHING,
                                               [MAPPING_NO_GATEWAY] = ADVICE_MAP_NO_GATEWAY};
    static const enum advice_map by_state[] = {[PORTMAP_ASKING] = ADVICE_MAP_NOTHING,
                                               [PORTMAP_MAPPED] = ADVICE_MAP_MAPPED,
                                               [PORTMAP_USELESS] = ADVICE_MAP_USELESS,
                                               [PORTMAP_REFUSED] = ADVICE_MAP_REFUSED,
                                               [PORTMAP_SILENT] = ADVICE_MAP_SILENT};
    return m->stage == MAPPING_ASKED ? by_state[mapping_state(m, MAPPING_UDP)] : by_stage[m->stage];
}

static bool is_v6(const struct addr *a)
{
    return a->sa.sa_family == AF_INET6 && candidate_is_public(a);
}

static bool has_v6(const struct record_candidate *c, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_v6(&c[i].addr))
            return true;
    return false;
}

static enum advice_way way_of(const struct remote *r)
{
    struct session_stats s;
    if (!r->session)
        return ADVICE_NOT_YET;
    session_stat(r->session, &s);
    if (tcpway_is_path(s.quic.path.id))
        return ADVICE_TCP;
    return net_path_channel(&r->peerd->net, &s.quic.path) ? ADVICE_RELAY : ADVICE_DIRECT;
}

static void peer_facts(struct advice_facts *f, const struct remote *r)
{
    const struct attempt *last = r->attempts.at[0];
    f->with_peer = true;
    f->way = way_of(r);
    f->over = last && !last->running;
    f->reason = last ? last->reason : PUNCH_NO_REASON;
    if (!last)
        return;
    f->peer = last->peer;
    f->peer_maps = last->peer_maps;
    f->no_guessing = r->peerd->net.no_guessing || !last->peer_guessing;
    f->peer_v6 = last->peer_v6;
}

json_t *report_advice(struct peerd *p, struct remote *r)
{
    struct net *n = &p->net;
    struct record_candidate own[NET_ADDRS_MAX];
    char gateway[INET6_ADDRSTRLEN], external[ADDR_TEXT_MAX] = "";
    const char *protocol;
    const struct addr *a = external_of(&n->mapping, MAPPING_UDP, &protocol);
    struct advice_facts f = {.own = gathering_nat(&n->gathering),
                             .map = map_of(&n->mapping),
                             .udp_blocked = net_udp_blocked(n),
                             .asked = gathering_is_over(&n->gathering),
                             .port = n->udp.port,
                             .gateway = host_format(&n->mapping.gateway, gateway),
                             .external = external};
    struct advice advice[ADVICE_MAX];
    json_t *list = json_array();
    if (a->len)
        (void)addr_format(a, external);
    f.own_v6 = has_v6(own, net_candidates(n, own));
    if (r)
        peer_facts(&f, r);
    size_t count = advice_give(&f, advice);
    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s}", "word", advice[i].word, "text", advice[i].text));
    return list;
}
