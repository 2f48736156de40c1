/* One thread: takes all datagrams that wait on a socket at once, answers them at once, and does the
 * housekeeping every second. Datagrams come in, answers go out; everything here is the thread's
 * own but what rendezvous/server.h says is shared. */
#include "rendezvousd/worker.h"

#include <netinet/ip.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

#define BATCH 64
/* One byte more than a message may have tells a longer one. */
#define IN_SIZE      (RDVMSG_MAX + 1)
#define CONTROL_SIZE CMSG_SPACE(sizeof(struct in6_pktinfo))

/* The arrays of recvmmsg() and sendmmsg(). */
struct batch {
    struct mmsghdr in[BATCH], out[BATCH];
    struct iovec in_iov[BATCH], out_iov[BATCH];
    struct sockaddr_in6 from[BATCH];
    uint8_t control[BATCH][CONTROL_SIZE] __attribute__((aligned(8)));
    uint8_t in_bytes[BATCH][IN_SIZE], out_bytes[BATCH][RDVMSG_MAX];
};

struct udp {
    struct watch watch;
    struct worker *worker;
    uint32_t index;
};

struct worker {
    struct loop loop;
    struct rdv rdv;
    struct udp udp[SOCKETS_MAX];
    struct tcp tcp;
    struct watch outbox;
    struct timer second;
    uint64_t now_ms, unix_s;
    struct batch batch;
};

struct loop *worker_loop(struct worker *w)
{
    return &w->loop;
}

struct limits *worker_limits(struct worker *w)
{
    return w->rdv.limits;
}

static void clocks_read(struct worker *w)
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

size_t worker_handle(struct worker *w, struct rdv_input *in, uint8_t out[RDVMSG_MAX])
{
    clocks_read(w);
    in->now_ms = w->now_ms;
    in->unix_s = w->unix_s;
    size_t n = rdv_handle(&w->rdv, in, out);
    refusal_log(w, &in->from);
    return n;
}

/* Where the datagram was sent to, on a socket that is bound to all addresses. */
static struct addr local_find(struct msghdr *m)
{
    struct addr none = {.len = 0};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        struct in_pktinfo v4;
        struct in6_pktinfo v6;
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            memcpy(&v4, CMSG_DATA(c), sizeof v4);
            return addr_make(AF_INET, &v4.ipi_addr, 0);
        }
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            memcpy(&v6, CMSG_DATA(c), sizeof v6);
            return addr_make(AF_INET6, &v6.ipi6_addr, 0);
        }
    }
    return none;
}

/* Makes the answer leave from that address. */
static void local_set(struct msghdr *m, const struct addr *local)
{
    struct in_pktinfo v4 = {.ipi_spec_dst = local->v4.sin_addr};
    struct in6_pktinfo v6 = {.ipi6_addr = local->v6.sin6_addr};
    bool is6 = local->sa.sa_family == AF_INET6;
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    size_t n = is6 ? sizeof v6 : sizeof v4;
    c->cmsg_level = is6 ? IPPROTO_IPV6 : IPPROTO_IP;
    c->cmsg_type = is6 ? IPV6_PKTINFO : IP_PKTINFO;
    c->cmsg_len = CMSG_LEN(n);
    memcpy(CMSG_DATA(c), is6 ? (const void *)&v6 : (const void *)&v4, n);
    m->msg_controllen = CMSG_SPACE(n);
}

static void batch_prepare(struct batch *b)
{
    for (size_t i = 0; i < BATCH; i++) {
        b->in_iov[i] = (struct iovec){b->in_bytes[i], IN_SIZE};
        b->in[i].msg_hdr = (struct msghdr){.msg_name = &b->from[i],
                                           .msg_namelen = sizeof b->from[i],
                                           .msg_iov = &b->in_iov[i],
                                           .msg_iovlen = 1,
                                           .msg_control = b->control[i],
                                           .msg_controllen = CONTROL_SIZE};
    }
}

/* For answers that leave from another socket than they were asked at. */
static void send_from(struct worker *w, const struct addr *to, const uint8_t *bytes, size_t n)
{
    int fd = w->udp[w->rdv.send_from].watch.fd;
    (void)sendto(fd, bytes, n, MSG_DONTWAIT, &to->sa, to->len);
}

/* Answers datagram i; the answer takes the next place in `out`. */
static size_t datagram(struct udp *u, size_t i, size_t answers)
{
    struct worker *w = u->worker;
    struct batch *b = &w->batch;
    struct msghdr *m = &b->in[i].msg_hdr;
    struct rdv_input in = {.bytes = {(const char *)b->in_bytes[i], b->in[i].msg_len},
                           .now_ms = w->now_ms,
                           .unix_s = w->unix_s,
                           .via = {.socket = u->index, .local.len = 0}};
    in.from = addr_from((struct sockaddr *)&b->from[i], m->msg_namelen);
    if (m->msg_controllen > 0)
        in.via.local = local_find(m);
    size_t n = rdv_handle(&w->rdv, &in, b->out_bytes[answers]);
    refusal_log(w, &in.from);
    if (n > 0 && w->rdv.send_from != u->index) {
        send_from(w, &in.from, b->out_bytes[answers], n);
        n = 0;
    }
    if (n == 0)
        return answers;
    b->out_iov[answers] = (struct iovec){b->out_bytes[answers], n};
    b->out[answers].msg_hdr = (struct msghdr){.msg_name = &b->from[i],
                                              .msg_namelen = m->msg_namelen,
                                              .msg_iov = &b->out_iov[answers],
                                              .msg_iovlen = 1};
    if (in.via.local.len) {
        struct msghdr *out = &b->out[answers].msg_hdr;
        out->msg_control = b->control[i];
        out->msg_controllen = CONTROL_SIZE;
        local_set(out, &in.via.local);
    }
    return answers + 1;
}

/* What the kernel does not take is lost, as datagrams are. */
static void batch_send(int fd, struct batch *b, size_t answers)
{
    for (size_t sent = 0; sent < answers;) {
        int n = sendmmsg(fd, b->out + sent, (unsigned)(answers - sent), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        sent += n > 0 ? (size_t)n : 1;
    }
}

static void udp_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct udp *u = container_of(watch, struct udp, watch);
    struct batch *b = &u->worker->batch;
    batch_prepare(b);
    int n = recvmmsg(watch->fd, b->in, BATCH, MSG_DONTWAIT, NULL);
    size_t answers = 0;
    clocks_read(u->worker);
    for (int i = 0; i < n; i++)
        answers = datagram(u, (size_t)i, answers);
    if (answers > 0)
        batch_send(watch->fd, b, answers);
}

static void udp_send(struct worker *w, const struct names_job *job, uint8_t *bytes, size_t n)
{
    uint8_t control[CONTROL_SIZE] __attribute__((aligned(8))) = {0};
    struct addr to = job->from;
    struct iovec iov = {bytes, n};
    struct msghdr m = {.msg_name = &to.sa, .msg_namelen = to.len, .msg_iov = &iov, .msg_iovlen = 1};
    if (job->via.local.len) {
        m.msg_control = control;
        m.msg_controllen = sizeof control;
        local_set(&m, &job->via.local);
    }
    (void)sendmsg(w->udp[job->via.socket].watch.fd, &m, MSG_DONTWAIT);
}

/* The store has finished jobs. */
static void outbox_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct worker *w = container_of(watch, struct worker, outbox);
    uint8_t out[RDVMSG_MAX];
    uint64_t count;
    ssize_t got = read(watch->fd, &count, sizeof count);
    (void)got;
    for (struct names_job *job; (job = names_outbox_take(&w->rdv.outbox));) {
        size_t n = rdv_finish(&w->rdv, job, out);
        refusal_log(w, &job->from);
        if (job->via.connection)
            tcp_send(&w->tcp, job->via.connection, out, n);
        else
            udp_send(w, job, out, n);
        free(job);
    }
}

static void second(struct timer *t)
{
    struct worker *w = container_of(t, struct worker, second);
    clocks_read(w);
    registry_sweep(w->rdv.shared->registry, (uint32_t)(w->now_ms / 1000));
    tcp_sweep(&w->tcp);
    loop_timer(&w->loop, &w->second, 1000);
}

static int watches_add(struct worker *w, const struct sockets *s)
{
    for (uint32_t i = 0; i < s->udp_count; i++) {
        w->udp[i] = (struct udp){{.fd = -EBADF, .ready = udp_ready}, w, i};
        int r = loop_watch(&w->loop, &w->udp[i].watch, s->udp[i], EPOLLIN);
        if (r < 0)
            return r;
    }
    w->outbox = (struct watch){.fd = -EBADF, .ready = outbox_ready};
    int r = loop_watch(&w->loop, &w->outbox, w->rdv.outbox.event_fd, EPOLLIN);
    return r < 0 ? r : tcp_init(&w->tcp, w, s);
}

struct worker *worker_new(const struct rdv_shared *shared, const struct sockets *s)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->second.fire = second;
    if (rdv_init(&w->rdv, shared) < 0 || loop_init(&w->loop) < 0 || watches_add(w, s) < 0) {
        loop_done(&w->loop);
        rdv_done(&w->rdv);
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
    for (size_t i = 0; i < RDVMSG_TYPE_COUNT; i++)
        add(&sum->answered[i], &c->answered[i]);
    for (size_t i = 0; i < RDV_REASON_COUNT; i++)
        add(&sum->refused[i], &c->refused[i]);
    add(&sum->stun, &c->stun);
    add(&sum->withheld, &c->withheld);
    add(&sum->dropped, &c->dropped);
}
