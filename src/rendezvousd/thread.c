/* One thread: its sockets, what comes back from the store, what other threads have for its
 * connections, and the housekeeping every second. Everything here is the thread's own but what
 * rendezvous/server.h and struct hub say is shared. */
#include "rendezvousd/thread.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

void thread_clocks(struct thread *th)
{
    th->now_ms = clock_now_ms();
    th->unix_s = (uint64_t)time(NULL);
}

static void refusal_log(const struct thread *th, const struct addr *from)
{
    char text[ADDR_TEXT_MAX];
    if (th->rdv.refused != RDV_OK && log_level() >= LOG_DEBUG)
        log_debug("refused reason=%s peer=%s", rdv_reason_word(th->rdv.refused),
                  addr_format(from, text));
}

void thread_send(struct thread *th, const struct place *to, struct str bytes)
{
    if (!to->connection)
        udp_send_copy(th, to, bytes); /* each thread has a socket on the same address */
    else if (to->thread == th->index)
        tcp_send(&th->tcp, to->connection, bytes);
    else if (mailbox_post(&th->hub->boxes[to->thread], to->connection, false, bytes) < 0)
        thread_add(&th->rdv.counters.dropped, 1);
}

void thread_flush(struct thread *th)
{
    udp_flush(th);
    tcp_flush(&th->tcp);
}

size_t thread_handle(struct thread *th, struct rdv_input *in, uint8_t out[RDVMSG_MAX])
{
    in->now_ms = th->now_ms;
    in->unix_s = th->unix_s;
    size_t n = rdv_handle(&th->rdv, in, out);
    const struct rdv_push *push = &th->rdv.push;
    refusal_log(th, &in->from);
    if (push->n > 0)
        thread_send(th, &push->to, (struct str){(const char *)push->bytes, push->n});
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
    struct thread *th = container_of(watch, struct thread, outbox);
    uint8_t out[RDVMSG_MAX];
    event_take(watch->fd);
    for (struct job *job; (job = outbox_take(&th->rdv.outbox));) {
        const struct place to = place_make(&job->from, &job->via);
        size_t n = rdv_finish(&th->rdv, job, out);
        refusal_log(th, &job->from);
        if (n > 0)
            thread_send(th, &to, (struct str){(const char *)out, n});
        free(job);
    }
    thread_flush(th);
}

/* Other threads have something for our connections. */
static void mail_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct thread *th = container_of(watch, struct thread, mail);
    event_take(watch->fd);
    for (struct mail *m; (m = mailbox_take(&th->hub->boxes[th->index]));) {
        struct str bytes = {(const char *)m->bytes, m->n};
        if (!m->relayed)
            tcp_send(&th->tcp, m->connection, bytes);
        else if (!tcp_relay(&th->tcp, m->connection, bytes))
            thread_add(&th->rdv.counters.relay_lost, 1);
        free(m);
    }
    thread_flush(th);
}

static void second(struct timer *t)
{
    struct thread *th = container_of(t, struct thread, second);
    thread_clocks(th);
    registry_sweep(th->rdv.shared->registry, (uint32_t)(th->now_ms / 1000));
    relay_sweep(th->rdv.shared->relay, (uint32_t)(th->now_ms / 1000));
    tcp_sweep(&th->tcp);
    loop_timer(&th->loop, &th->second, 1000);
}

static int watches_add(struct thread *th, const struct sockets *s)
{
    for (uint8_t i = 0; i < s->udp_count; i++) {
        th->udp[i] = (struct udp){{.fd = -EBADF, .ready = udp_ready}, th, i};
        int r = loop_watch(&th->loop, &th->udp[i].watch, s->udp[i], EPOLLIN);
        if (r < 0)
            return r;
    }
    th->outbox = (struct watch){.fd = -EBADF, .ready = outbox_ready};
    int r = loop_watch(&th->loop, &th->outbox, th->rdv.outbox.event_fd, EPOLLIN);
    th->mail = (struct watch){.fd = -EBADF, .ready = mail_ready};
    if (r == 0)
        r = loop_watch(&th->loop, &th->mail, th->hub->boxes[th->index].event_fd, EPOLLIN);
    return r < 0 ? r : tcp_init(&th->tcp, th, s);
}

struct thread *thread_new(struct hub *hub, const struct sockets *s, uint8_t index)
{
    struct thread *th = calloc(1, sizeof *th);
    if (!th)
        return NULL;
    th->hub = hub;
    th->index = index;
    th->second.fire = second;
    th->io = udp_io_new();
    if (!th->io || rdv_init(&th->rdv, hub->shared) < 0 || loop_init(&th->loop) < 0 ||
        watches_add(th, s) < 0 || nodes_join(th) < 0) {
        loop_done(&th->loop);
        rdv_done(&th->rdv);
        udp_io_free(th->io);
        free(th);
        return NULL;
    }
    return th;
}

void *thread_run(void *thread)
{
    struct thread *th = thread;
    second(&th->second);
    loop_run(&th->loop);
    return NULL;
}

/* Another thread's numbers, each of them whole, not all of the same instant. */
static void add(uint64_t *sum, const uint64_t *counter)
{
    *sum += __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void thread_count(const struct thread *th, struct rdv_counters *sum)
{
    const struct rdv_counters *c = &th->rdv.counters;
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
