/* The judgement over one connection: peek what has come, sniff it, route it. Reads the socket with
 * MSG_PEEK only, so whoever gets it finds every byte; leaves no option on it. */
#include "share/conn.h"

#include <sys/socket.h>

#include "share/sniff.h"

static void judge_claim(struct conn_judgement *j, uint32_t claim, enum reason reason)
{
    j->verdict = claim == ROUTE_NONE ? CONN_REFUSE : CONN_DELIVER;
    j->claim = claim;
    j->refusal = (struct refusal){.reason = reason};
}

static void judge_refuse(struct conn_judgement *j, enum reason reason)
{
    j->verdict = CONN_REFUSE;
    j->refusal = (struct refusal){.reason = reason};
}

/* Nothing known begins like this: prefix routes and any:// are left. */
static void judge_unknown(struct conn_judgement *j, const struct route_table *routes,
                          struct route_query *q, bool final)
{
    j->sniffed.proto = PROTO_NONE;
    if (!final && route_wants_more(routes, &q->local, q->head)) {
        j->verdict = CONN_MORE;
        return;
    }
    judge_claim(j, route_match(routes, q), REASON_NO_ROUTE);
}

static void judge_bytes(struct conn_judgement *j, const struct route_table *routes,
                        struct route_query *q, bool final)
{
    enum sniff_verdict v = sniff_bytes(q->head, &j->sniffed);
    j->sniffed_valid = v == SNIFF_DONE || v == SNIFF_BAD;
    switch (v) {
    case SNIFF_DONE:
        judge_claim(j, route_match(routes, q), REASON_NO_ROUTE);
        return;
    case SNIFF_BAD:
        judge_refuse(j, reason_find(j->sniffed.reason));
        return;
    case SNIFF_NOT:
        judge_unknown(j, routes, q, final);
        return;
    case SNIFF_MORE:
        j->verdict = CONN_MORE;
        if (final)
            judge_refuse(j, REASON_HEADER_WAIT);
    }
}

/* On listeners that expect it, the PROXY header stands in front and stays there; what is behind it
 * is sniffed, and the address in it is the peer. Returns false when the judgement is made already.
 */
static bool judge_proxy(struct conn_judgement *j, struct route_query *q, bool final)
{
    size_t header;
    struct addr source, destination;
    switch (proxy_sniff(q->head, &header, &source, &destination)) {
    case SNIFF_DONE:
        q->head = str_skip(q->head, header);
        if (source.sa.sa_family != AF_UNSPEC)
            q->peer = source;
        return true;
    case SNIFF_MORE:
        j->verdict = CONN_MORE;
        if (final)
            judge_refuse(j, REASON_HEADER_WAIT);
        return false;
    default:
        judge_refuse(j, REASON_BAD_PROXY);
        return false;
    }
}

void conn_local(int fd, struct addr *ret_local)
{
    struct addr a;
    socklen_t len = sizeof a.un;
    if (getsockname(fd, &a.sa, &len) < 0)
        len = 0;
    *ret_local = addr_from(&a.sa, len);
}

void conn_judge(const struct conn *c, const struct route_table *routes, enum conn_wait wait,
                char *buf, struct conn_judgement *ret_judgement)
{
    struct conn_judgement *j = ret_judgement;
    bool final = wait == CONN_WAIT_OVER;
    j->sniffed_valid = false;
    size_t max = j->bytes_max && j->bytes_max < SNIFF_BYTES_MAX ? j->bytes_max : SNIFF_BYTES_MAX;
    ssize_t n = recv(c->fd, buf, max, MSG_PEEK | MSG_DONTWAIT);
    j->bytes = n > 0 ? (uint32_t)n : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        judge_refuse(j, REASON_RESET);
        return;
    }
    if (n < 0 && !final) {
        j->verdict = CONN_MORE;
        return;
    }
    if (j->local.sa.sa_family == AF_UNSPEC)
        conn_local(c->fd, &j->local);
    j->sniffed.proto = PROTO_NONE;
    struct route_query q = {.local = j->local,
                            .peer = c->peer,
                            .sniffed = &j->sniffed,
                            .head = {buf, n > 0 ? (size_t)n : 0},
                            .silent = n <= 0};
    if (q.silent && n == 0)
        judge_refuse(j, REASON_CLOSED);
    else if (q.silent)
        judge_claim(j, route_match(routes, &q), REASON_SILENT);
    else if (!c->proxy || judge_proxy(j, &q, final))
        judge_bytes(j, routes, &q, final);
    if (j->verdict == CONN_MORE && j->bytes >= max) {
        judge_refuse(j, REASON_TOO_LARGE);
        j->sniffed_valid = true;
    }
}
