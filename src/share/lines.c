/* What the access log and the refusal log say of a connection. */
#include "share/worker-internal.h"

#include "share/sniff.h"

#define HOST_MAX 256
#define RETRY_MS 100

static const struct pool *pool_numbered(const struct snapshot *s, uint32_t id)
{
    size_t low = 0, high = s->pool_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->pools[mid]->queue->id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->pool_count && s->pools[low]->queue->id == id ? s->pools[low] : NULL;
}

static const char *or_dash(const char *word)
{
    return word[0] ? word : "-";
}

/* The address that it came to, which a judgement need not know. */
static const char *local_text(const struct conn *c, char buf[ADDR_TEXT_MAX])
{
    struct addr local;
    conn_local(c->fd, &local);
    return addr_format(&local, buf);
}

static const char *host_of(const struct conn_judgement *j, char buf[HOST_MAX])
{
    bool known = j && j->sniffed_valid;
    return logbuf_word(known ? j->sniffed.host : STR(""), buf, HOST_MAX);
}

static const char *proto_of(const struct conn_judgement *j)
{
    return j && j->sniffed_valid ? proto_name(j->sniffed.proto) : "-";
}

static struct logfile *file_of(const struct worker *w, enum dispatch_log kind)
{
    return w->snapshot ? w->snapshot->logs[kind] : NULL;
}

static void lost(struct worker *w, bool written)
{
    if (!written)
        board_add(&w->board->lines_lost, 1);
}

void lines_access(struct worker *w, const struct queue *q, const struct conn *c,
                  const struct conn_judgement *j)
{
    char peer[ADDR_TEXT_MAX], local[ADDR_TEXT_MAX], host[HOST_MAX];
    const struct queue *app = q->base ? q->base : q;
    lost(w, logbuf_line(
                &w->lines[DISPATCH_LOG_ACCESS],
                "app=%s peer=%s local=%s proto=%s host=%s bytes=- ms=%llu queue=%u outcome=%s",
                or_dash(app->name), addr_format(&c->peer, peer), addr_format(&w->sent_local, local),
                proto_of(j), host_of(j, host), (unsigned long long)(w->now_ms - c->since_ms), q->id,
                c->parked ? "parked" : "delivered"));
}

void lines_refusal(struct worker *w, const struct conn *c, const struct refusal *why,
                   const struct conn_judgement *j)
{
    if (!file_of(w, DISPATCH_LOG_REFUSAL))
        return;
    char peer[ADDR_TEXT_MAX], local[ADDR_TEXT_MAX], host[HOST_MAX];
    const struct pool *p = why->whose ? pool_numbered(w->snapshot, why->whose - 1) : NULL;
    lost(w, logbuf_line(&w->lines[DISPATCH_LOG_REFUSAL],
                        "reason=%s peer=%s local=%s proto=%s host=%s app=%s",
                        reason_word(why->reason), addr_format(&c->peer, peer), local_text(c, local),
                        proto_of(j), host_of(j, host), p ? or_dash(p->queue->name) : "-"));
}

void lines_flush(struct worker *w)
{
    bool all = true;
    for (int i = 0; i < DISPATCH_LOG_COUNT; i++)
        if (w->lines[i].used > 0)
            all &= logbuf_flush(&w->lines[i], file_of(w, i));
    w->lines_ms = all ? 0 : w->now_ms + RETRY_MS;
}
