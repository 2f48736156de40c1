/* Refuse: one log line with one reason word, an answer in the client's own protocol where it has
 * one, and a close that lets the answer arrive (unread bytes would make the kernel send a reset at
 * once). */
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "share/sniff.h"
#include "share/worker-internal.h"

#define LINGER_MS         1000
#define LOG_LINES_PER_SEC 20
#define PAGE_MAX          2048

void refuse_log(struct worker *w, const struct conn *c, const struct refusal *why,
                const struct conn_judgement *j)
{
    lines_refusal(w, c, why, j);
    uint64_t second = w->now_ms / 1000;
    if (second != w->log_second) {
        if (w->log_count > LOG_LINES_PER_SEC)
            log_info("refused more=%u", w->log_count - LOG_LINES_PER_SEC);
        w->log_second = second;
        w->log_count = 0;
    }
    if (++w->log_count > LOG_LINES_PER_SEC)
        return;
    char peer[ADDR_TEXT_MAX];
    const char *proto = j && j->sniffed_valid ? proto_name(j->sniffed.proto) : "-";
    struct str host = j && j->sniffed_valid && j->sniffed.host.n ? j->sniffed.host : STR("-");
    log_info("refused reason=%s peer=%s proto=%s host=" STR_FMT, reason_word(why->reason),
             addr_format(&c->peer, peer), proto, STR_ARG(host));
}

struct page {
    char *text;
    size_t used, size;
};

static bool page_add(void *ctx, const struct route_entry *e)
{
    struct page *p = ctx;
    char route[ROUTE_TEXT_MAX];
    (void)route_format(&e->route, route);
    int n = snprintf(p->text + p->used, p->size - p->used, "  %s\n", route);
    if (n < 0 || (size_t)n >= p->size - p->used)
        return false;
    p->used += (size_t)n;
    return true;
}

/* Who comes from this machine is told what there is instead. */
static struct str page_text(const struct worker *w, const struct conn *c, const struct refusal *why,
                            const struct conn_judgement *j, char buf[PAGE_MAX])
{
    struct page p = {buf, 0, PAGE_MAX};
    const struct reason_info *info = reason_info(why->reason);
    int n = snprintf(buf, PAGE_MAX, "berth: %s: " STR_FMT "\n%s\n", info->word,
                     STR_ARG(j->sniffed.host), info->sentence);
    p.used = n > 0 ? (size_t)n : 0;
    if (why->reason == REASON_NO_ROUTE && addr_is_loopback(&c->peer)) {
        n = snprintf(buf + p.used, PAGE_MAX - p.used, "served here:\n");
        p.used += n > 0 ? (size_t)n : 0;
        route_each(w->snapshot->routes, &j->local, page_add, &p);
    }
    return (struct str){buf, p.used};
}

/* Sends what can be sent at once; returns whether the client has something to read. */
static bool answer(const struct worker *w, const struct conn *c, const struct refusal *why,
                   const struct conn_judgement *j)
{
    char text[PAGE_MAX], buf[PAGE_MAX + 512];
    struct str page = page_text(w, c, why, j, text);
    struct str bytes = sniff_refusal(&j->sniffed, why, page, buf, sizeof buf);
    return bytes.n > 0 && send(c->fd, bytes.p, bytes.n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
}

void refusal_count(struct worker *w, const struct refusal *why)
{
    board_add(&w->board->refused, 1);
    board_add(&w->board->reasons[why->reason % BOARD_REASONS_MAX], 1);
    if (why->whose)
        board_add(&w->board->queues[(why->whose - 1) % BOARD_QUEUES_MAX].refused, 1);
}

/* Decided earlier or elsewhere: looks what it speaks, to answer in it. NULL when that cannot be
 * told yet; it is told later, then. */
static const struct conn_judgement *refuse_listen(struct worker *w, struct conn *c,
                                                  const struct refusal *why)
{
    struct conn_judgement *j = &w->judgement;
    j->local.sa.sa_family = AF_UNSPEC;
    conn_judge(c, w->snapshot->routes, CONN_WAIT_BYTES, w->peeked, j);
    if (j->verdict != CONN_MORE)
        return j;
    c->doom = *why;
    if (c->state != CONN_SNIFF || list_empty(&c->link))
        worker_move(w, c, CONN_SNIFF, &w->silent, w->limits.silence_ms);
    worker_await(w, c);
    return NULL;
}

/* On a port where nothing but a reserved name is known, other names are nobody's. */
static void refusal_mend(struct refusal *why, const struct conn_judgement *j)
{
    if (why->reason == REASON_RESERVED && j->verdict == CONN_REFUSE && j->sniffed_valid)
        *why = j->refusal;
}

/* A close with no time to linger is a reset. */
static void refuse_reset(struct worker *w, struct conn *c, const struct refusal *why)
{
    struct linger at_once = {.l_onoff = 1};
    refusal_count(w, why);
    refuse_log(w, c, why, NULL);
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    worker_close(w, c);
}

void refuse(struct worker *w, struct conn *c, const struct refusal *refusal,
            const struct conn_judgement *j)
{
    struct refusal why = *refusal;
    if (why.reset) {
        refuse_reset(w, c, &why);
        return;
    }
    if (!j)
        j = refuse_listen(w, c, &why);
    if (!j)
        return;
    refusal_mend(&why, j);
    refusal_count(w, &why);
    refuse_log(w, c, &why, j);
    if (!j->sniffed_valid || !answer(w, c, &why, j)) {
        worker_close(w, c);
        return;
    }
    (void)shutdown(c->fd, SHUT_WR);
    worker_move(w, c, CONN_LINGER, &w->linger, LINGER_MS);
    if (worker_poll(w, c, EPOLLIN | EPOLLRDHUP | EPOLLET) < 0)
        worker_close(w, c);
    else
        refuse_linger(w, c);
}

void refuse_linger(struct worker *w, struct conn *c)
{
    for (int i = 0; i < 8; i++) {
        ssize_t n = recv(c->fd, w->peeked, sizeof w->peeked, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            worker_close(w, c);
            return;
        }
    }
    /* Somebody who keeps talking to a closed door has until the deadline: a close with bytes unread
     * would take the answer away from him. The others come first; setting the events anew has the
     * kernel look again. */
    if (worker_poll(w, c, EPOLLIN | EPOLLRDHUP | EPOLLET) < 0)
        worker_close(w, c);
}
