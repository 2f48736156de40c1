/* One thread: its sockets, what comes back from the store, what other threads have for its
 * connections, and the housekeeping every second. Everything here is the thread's own but what
 * rendezvous/server.h and struct hub say is shared. */
#include "rendezvousd/worker.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

void worker_clocks(struct worker *w)
{
    w->now_ms = clock_now_ms();
    w->unix_s = (uint64_t)time(NULL);
}

static void refusal_log(const struct worker *w, const struct addr *from)
{
    char text[ADDR_TEXT_MAX];
    if (w->rdv.refused != RDV_OK && log_level() >= LOG_DEBUG)
        log_debug("refused reason=%s peer=%s", rdv_reason_word(w->rdv.refused),
                  addr_format(from, text));
}

void worker_send(struct worker *w, const struct place *to, struct str bytes)
{
    if (!to->connection)
        udp_send_copy(w, to, bytes); /* each thread has a socket on the same address */
    else if (to->thread == w->index)
        tcp_send(&w->tcp, to->connection, bytes);
    else if (mailbox_post(&w->hub->boxes[to->thread], to->connection, false, bytes) < 0)
        worker_add(&w->rdv.counters.dropped, 1);
}

void worker_flush(struct worker *w)
{
    udp_flush(w);
    tcp_flush(&w->tcp);
}

size_t worker_handle(struct worker *w, struct rdv_input *in, uint8_t out[RDVMSG_MAX])
{
    in->now_ms = w->now_ms;
    in->unix_s = w->unix_s;
    size_t n = rdv_handle(&w->rdv, in, out);
    const struct rdv_push *push = &w->rdv.push;
    refusal_log(w, &in->from);
    if (push->n > 0)
        worker_send(w, &push->to, (struct str){(const char *)push->bytes, push->n});
    return n;
}

static void event_take(int fd)
{
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got;
}

/* The store has finished jobs. */
static void outbox_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct worker *w = container_of(watch, struct worker, outbox);
    uint8_t out[RDVMSG_MAX];
    event_take(watch->fd);
    for (struct job *job; (job = outbox_take(&w->rdv.outbox));) {
        const struct place to = place_make(&job->from, &job->via);
        size_t n = rdv_finish(&w->rdv, job, out);
        refusal_log(w, &job->from);
        if (n > 0)
            worker_send(w, &to, (struct str){(const char *)out, n});
        free(job);
    }
    worker_flush(w);
}

/* Other threads have something for our connections. */
static void mail_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct worker *w = container_of(watch, struct worker, mail);
    event_take(watch->fd);
    for (struct mail *m; (m = mailbox_take(&w->hub->boxes[w->index]));) {
        struct str bytes = {(const char *)m->bytes, m->n};
        if (!m->relayed)
            tcp_send(&w->tcp, m->connection, bytes);
        else if (!tcp_relay(&w->tcp, m->connection, bytes))
            worker_add(&w->rdv.counters.relay_lost, 1);
        free(m);
    }
    worker_flush(w);
}

static void second(struct timer *t)
{
    struct worker *w = container_of(t, struct worker, second);
    worker_clocks(w);
    registry_sweep(w->rdv.shared->registry, (uint32_t)(w->now_ms / 1000));
    relay_sweep(w->rdv.shared->relay, (uint32_t)(w->now_ms / 1000));
    tcp_sweep(&w->tcp);
    loop_timer(&w->loop, &w->second, 1000);
}

static int watches_add(struct worker *w, const struct sockets *s)
{
    for (uint8_t i = 0; i < s->udp_count; i++) {
        w->udp[i] = (struct udp){{.fd = -EBADF, .ready = udp_ready}, w, i};
        int r = loop_watch(&w->loop, &w->udp[i].watch, s->udp[i], EPOLLIN);
        if (r < 0)
            return r;
    }
    w->outbox = (struct watch){.fd = -EBADF, .ready = outbox_ready};
    int r = loop_watch(&w->loop, &w->outbox, w->rdv.outbox.event_fd, EPOLLIN);
    w->mail = (struct watch){.fd = -EBADF, .ready = mail_ready};
    if (r == 0)
        r = loop_watch(&w->loop, &w->mail, w->hub->boxes[w->index].event_fd, EPOLLIN);
    return r < 0 ? r : tcp_init(&w->tcp, w, s);
}

struct worker *worker_new(struct hub *hub, const struct sockets *s, uint8_t index)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->hub = hub;
    w->index = index;
    w->second.fire = second;
    w->io = udp_io_new();
    if (!w->io || rdv_init(&w->rdv, hub->shared) < 0 || loop_init(&w->loop) < 0 ||
        watches_add(w, s) < 0 || nodes_join(w) < 0) {
        loop_done(&w->loop);
        rdv_done(&w->rdv);
        udp_io_free(w->io);
        free(w);
        return NULL;
    }
    return w;
}

void *worker_run(void *worker)
{
    struct worker *w = worker;
    second(&w->second);
    loop_run(&w->loop);
    return NULL;
}

/* Another thread's numbers, each of them whole, not all of the same instant. */
static void add(uint64_t *sum, const uint64_t *counter)
{
    *sum += __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void worker_count(const struct worker *w, struct rdv_counters *sum)
{
    const struct rdv_counters *c = &w->rdv.counters;
    for (size_t i = 0; i < RDVMSG_TYPE_COUNT; i++) {
        add(&sum->answered[i], &c->answered[i]);
        add(&sum->pushed[i], &c->pushed[i]);
    }
    for (size_t i = 0; i < RDV_REASON_COUNT; i++)
        add(&sum->refused[i], &c->refused[i]);
    for (size_t i = 0; i < TECHNIQUE_END; i++)
        add(&sum->worked[i], &c->worked[i]);
    add(&sum->stun, &c->stun);
    add(&sum->withheld, &c->withheld);
    add(&sum->dropped, &c->dropped);
    add(&sum->relayed, &c->relayed);
    add(&sum->relayed_bytes, &c->relayed_bytes);
    add(&sum->relay_limited, &c->relay_limited);
    add(&sum->relay_unfair, &c->relay_unfair);
    add(&sum->relay_lost, &c->relay_lost);
}
