/* Datagrams of one thread: as many as wait are taken at once, and what they lead to goes out at
 * once. A sender's packets that follow each other come as one buffer with the size of each
 * (UDP_GRO); packets to one receiver that follow each other leave as one message (UDP_SEGMENT),
 * whichever buffers they came in, so that the way through the kernel is made once for up to 64 KiB.
 * Packets that are passed on never leave the buffer that they came in. */
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdlib.h>

#include "rendezvousd/thread.h"

#define BATCH 64
/* The most that the kernel puts together. Each begins somewhere else in the processor's cache. */
#define IN_SIZE      65536
#define IN_STRIDE    (IN_SIZE + 832)
#define IN_CONTROL   (CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)))
#define OUT_CONTROL  (CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(uint16_t)))
#define SEGMENTS_MAX 64 /* Linux: UDP_MAX_SEGMENTS of kernels before 6.9 */
#define MESSAGE_MAX  65000
#define IOVS         (4 * BATCH)

/* What waits to be sent, all of it from one socket. */
struct outgoing {
    struct mmsghdr messages[BATCH];
    struct iovec iov[IOVS]; /* each has whole packets */
    struct sockaddr_in6 to[BATCH];
    uint16_t segment[BATCH]; /* 0: one packet */
    uint8_t control[BATCH][OUT_CONTROL] __attribute__((aligned(8)));
    uint8_t bytes[BATCH][RDVMSG_MAX]; /* of our own messages */
    size_t count, iov_count;
    uint8_t socket;
    /* The last message, when packets may be added: who gets it, its packets' size, all bytes. */
    struct place last;
    size_t last_segment, last_n; /* 0: none may */
};

struct udp_io {
    struct mmsghdr in[BATCH];
    struct iovec iov[BATCH];
    struct sockaddr_in6 from[BATCH];
    uint8_t control[BATCH][IN_CONTROL] __attribute__((aligned(8)));
    uint8_t *bytes; /* owned: BATCH * IN_STRIDE */
    struct outgoing out;
};

/* Our own addresses --------------------------------------------------------- */

uint8_t locals_number(struct locals *l, const struct addr *a)
{
    size_t n = atomic_load_explicit(&l->count, memory_order_acquire);
    for (size_t i = 0; i < n; i++)
        if (addr_equal(&l->addrs[i], a))
            return (uint8_t)(i + 1);
    if (n == LOCALS_MAX)
        return 0;
    (void)pthread_mutex_lock(&l->lock);
    /* Another thread may have added it in between; then it stands there twice, which is no harm. */
    n = atomic_load_explicit(&l->count, memory_order_relaxed);
    if (n < LOCALS_MAX) {
        l->addrs[n] = *a;
        atomic_store_explicit(&l->count, ++n, memory_order_release);
    } else {
        n = 0;
    }
    (void)pthread_mutex_unlock(&l->lock);
    return (uint8_t)n;
}

struct addr locals_addr(struct locals *l, uint8_t number)
{
    if (number == 0)
        return (struct addr){.len = 0};
    return l->addrs[number - 1];
}

/* Buffers ------------------------------------------------------------------- */

struct udp_io *udp_io_new(void)
{
    struct udp_io *io = calloc(1, sizeof *io);
    if (io)
        io->bytes = malloc((size_t)BATCH * IN_STRIDE);
    if (!io || !io->bytes) {
        udp_io_free(io);
        return NULL;
    }
    for (size_t i = 0; i < BATCH; i++) {
        io->iov[i] = (struct iovec){io->bytes + i * IN_STRIDE, IN_SIZE};
        io->in[i].msg_hdr = (struct msghdr){.msg_name = &io->from[i],
                                            .msg_namelen = sizeof io->from[i],
                                            .msg_iov = &io->iov[i],
                                            .msg_iovlen = 1,
                                            .msg_control = io->control[i],
                                            .msg_controllen = IN_CONTROL};
    }
    return io;
}

void udp_io_free(struct udp_io *io)
{
    if (io)
        free(io->bytes);
    free(io);
}

/* Out ----------------------------------------------------------------------- */

/* What the kernel or the card does not cut up is cut up here, and leaves from the same address. */
static void send_apart(int fd, const struct msghdr *m, size_t segment)
{
    struct msghdr one = *m;
    one.msg_controllen -= CMSG_SPACE(sizeof(uint16_t)); /* the last says the size of packets */
    one.msg_iovlen = 1;
    for (size_t i = 0; i < m->msg_iovlen; i++) {
        const struct iovec *v = &m->msg_iov[i];
        for (size_t at = 0; at < v->iov_len; at += segment) {
            size_t left = v->iov_len - at;
            struct iovec packet = {(uint8_t *)v->iov_base + at, left < segment ? left : segment};
            one.msg_iov = &packet;
            (void)sendmsg(fd, &one, MSG_DONTWAIT);
        }
    }
}

/* What the kernel does not take is lost, as datagrams are. */
void udp_flush(struct thread *th)
{
    struct outgoing *o = &th->io->out;
    int fd = th->udp[o->socket].watch.fd;
    for (size_t sent = 0; sent < o->count;) {
        int n = sendmmsg(fd, o->messages + sent, (unsigned)(o->count - sent), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0 && o->segment[sent])
            send_apart(fd, &o->messages[sent].msg_hdr, o->segment[sent]);
        sent += n > 0 ? (size_t)n : 1;
    }
    o->count = o->iov_count = o->last_n = 0;
}

static void control_add(struct msghdr *m, const struct cmsghdr *head, const void *data, size_t n)
{
    struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)m->msg_control + m->msg_controllen);
    c->cmsg_level = head->cmsg_level;
    c->cmsg_type = head->cmsg_type;
    c->cmsg_len = CMSG_LEN(n);
    memcpy(CMSG_DATA(c), data, n);
    m->msg_controllen += CMSG_SPACE(n);
}

/* Makes it leave from that address of ours. */
static void local_set(struct msghdr *m, const struct addr *local)
{
    const struct cmsghdr head4 = {.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
    const struct cmsghdr head6 = {.cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO};
    const struct in_pktinfo v4 = {.ipi_spec_dst = local->v4.sin_addr};
    const struct in6_pktinfo v6 = {.ipi6_addr = local->v6.sin6_addr};
    if (local->sa.sa_family == AF_INET6)
        control_add(m, &head6, &v6, sizeof v6);
    else
        control_add(m, &head4, &v4, sizeof v4);
}

static socklen_t name_set(struct sockaddr_in6 *name, const struct place *to)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)name;
    if (to->family == 6) {
        *name = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = htons(to->port), .sin6_scope_id = to->scope};
        memcpy(&name->sin6_addr, to->ip, 16);
        return sizeof *name;
    }
    *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(to->port)};
    memcpy(&v4->sin_addr, to->ip, 4);
    return sizeof *v4;
}

/* The next free message of this socket, with everything but its bytes. */
static size_t out_next(struct thread *th, const struct place *to)
{
    struct outgoing *o = &th->io->out;
    if (o->count == BATCH || o->iov_count == IOVS || (o->count > 0 && o->socket != to->socket))
        udp_flush(th);
    size_t i = o->count++;
    o->socket = to->socket;
    o->segment[i] = 0;
    o->last_n = 0;
    o->messages[i].msg_hdr = (struct msghdr){.msg_name = &o->to[i],
                                             .msg_namelen = name_set(&o->to[i], to),
                                             .msg_iov = &o->iov[o->iov_count],
                                             .msg_control = o->control[i]};
    struct addr local = locals_addr(&th->hub->locals, to->local);
    if (local.len)
        local_set(&o->messages[i].msg_hdr, &local);
    return i;
}

static void bytes_add(struct outgoing *o, size_t i, void *bytes, size_t n)
{
    o->iov[o->iov_count++] = (struct iovec){bytes, n};
    o->messages[i].msg_hdr.msg_iovlen++;
}

void udp_send_copy(struct thread *th, const struct place *to, struct str bytes)
{
    struct outgoing *o = &th->io->out;
    if (bytes.n > RDVMSG_MAX)
        return;
    size_t i = out_next(th, to);
    memcpy(o->bytes[i], bytes.p, bytes.n);
    bytes_add(o, i, o->bytes[i], bytes.n);
}

/* The kernel cuts a message into packets of this size; only the last may be shorter. */
static void segment_set(struct outgoing *o, size_t i, size_t segment)
{
    static const struct cmsghdr head = {.cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT};
    if (o->segment[i])
        return;
    o->segment[i] = (uint16_t)segment;
    control_add(&o->messages[i].msg_hdr, &head, &o->segment[i], sizeof o->segment[i]);
}

/* May these bytes, in packets of this size, go with the last message? */
static bool joins(const struct outgoing *o, const struct place *to, size_t n, size_t segment)
{
    size_t all = o->last_n + n;
    return o->last_n > 0 && o->last_n % o->last_segment == 0 && o->iov_count < IOVS &&
           (segment == o->last_segment || (n <= segment && n < o->last_segment)) &&
           all <= MESSAGE_MAX && all <= o->last_segment * SEGMENTS_MAX &&
           memcmp(to, &o->last, sizeof *to) == 0;
}

static void send_some(struct thread *th, const struct place *to, uint8_t *bytes, size_t n,
                      size_t segment)
{
    struct outgoing *o = &th->io->out;
    if (joins(o, to, n, segment)) {
        bytes_add(o, o->count - 1, bytes, n);
        segment_set(o, o->count - 1, o->last_segment);
        o->last_n += n;
        return;
    }
    size_t i = out_next(th, to);
    bytes_add(o, i, bytes, n);
    if (n > segment)
        segment_set(o, i, segment);
    o->last = *to;
    o->last_segment = segment;
    o->last_n = n;
}

void udp_send(struct thread *th, const struct datagrams *d)
{
    size_t segment = d->segment ? d->segment : d->n, most = segment * SEGMENTS_MAX;
    for (size_t at = 0; at < d->n; at += most)
        send_some(th, d->to, d->bytes + at, d->n - at < most ? d->n - at : most, segment);
}

/* In ------------------------------------------------------------------------ */

/* Where the datagram was sent to, on a socket that is bound to all addresses, and the size of the
 * packets in it: 0: it is one. */
static struct addr control_read(struct msghdr *m, size_t *ret_segment)
{
    struct addr local = {.len = 0};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        struct in_pktinfo v4;
        struct in6_pktinfo v6;
        int segment;
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            memcpy(&v4, CMSG_DATA(c), sizeof v4);
            local = addr_make(AF_INET, &v4.ipi_addr, 0);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            memcpy(&v6, CMSG_DATA(c), sizeof v6);
            local = addr_make(AF_INET6, &v6.ipi6_addr, 0);
        } else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            memcpy(&segment, CMSG_DATA(c), sizeof segment);
            *ret_segment = segment > 0 ? (size_t)segment : 0;
        }
    }
    return local;
}

static void answer(struct udp *u, struct rdv_input *in)
{
    struct thread *th = u->thread;
    uint8_t out[RDVMSG_MAX];
    size_t n = thread_handle(th, in, out);
    if (n == 0)
        return;
    struct place to = place_make(&in->from, &in->via);
    if (th->rdv.send_from != u->index) {
        to.socket = (uint8_t)th->rdv.send_from;
        to.local = 0;
    }
    if (th->rdv.send_to)
        to.port = th->rdv.send_to;
    udp_send_copy(th, &to, (struct str){(const char *)out, n});
}

static void buffer_handle(struct udp *u, size_t i)
{
    struct udp_io *io = u->thread->io;
    struct msghdr *m = &io->in[i].msg_hdr;
    size_t n = io->in[i].msg_len, segment = 0;
    struct rdv_input in = {.via = {.thread = u->thread->index, .socket = u->index}};
    in.from = addr_from((struct sockaddr *)&io->from[i], m->msg_namelen);
    if (m->msg_controllen > 0) {
        struct addr local = control_read(m, &segment);
        in.via.local = local.len ? locals_number(&u->thread->hub->locals, &local) : 0;
    }
    uint8_t *bytes = io->bytes + i * IN_STRIDE;
    size_t step = segment ? segment : n;
    for (size_t at = 0, size; at < n; at += size) {
        size = n - at < step ? n - at : step;
        in.bytes = (struct str){(const char *)bytes + at, size};
        const struct relayed d = {place_make(&in.from, &in.via), bytes + at, n - at, step};
        if (relay_looks(bytes + at, size))
            size = forward(u->thread, &d);
        else
            answer(u, &in);
    }
}

void udp_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct udp *u = container_of(watch, struct udp, watch);
    struct thread *th = u->thread;
    struct udp_io *io = th->io;
    int n = recvmmsg(watch->fd, io->in, BATCH, MSG_DONTWAIT, NULL);
    thread_clocks(th);
    shares_begin(&th->shares, n == BATCH);
    for (int i = 0; th->shares.strict && i < n; i++)
        shares_ask(&th->shares, io->bytes + (size_t)i * IN_STRIDE, io->in[i].msg_len);
    for (int i = 0; i < n; i++) {
        buffer_handle(u, (size_t)i);
        io->in[i].msg_hdr.msg_namelen = sizeof io->from[i];
        io->in[i].msg_hdr.msg_controllen = IN_CONTROL;
    }
    thread_flush(th);
}
