/* Measures sessions over real UDP sockets on loopback, two processes, one for each peer.
 *   bulk SECONDS [PACKETS]  one stream from a writing to a reading process, through Unix sockets;
 *                           PACKETS 1: without GSO and GRO
 *   streams COUNT           so many streams at once in one session: time to open, memory of a side
 *   dial COUNT              one after the other on a warm session, and the bare round trip
 * One line of key=value goes to standard output. */
#include <fcntl.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/list.h"
#include "session/alarm.h"
#include "session/session.h"

#define SOCKET_BUFFER (4 << 20)
#define READS_A_TURN  64
#define BULK_BUFFER   (256 << 10)

struct peer {
    struct loop loop;
    struct alarm alarm;
    struct watch udp;
    struct endpoint *endpoint;
    struct session *session;
    struct addr other;
    int fd, kept_fd, pair[2];
    bool one_by_one;
    /* dial and streams */
    long wanted, answered;
    double began, *times;
    int echo_fd;
    struct watch echo;
};

/* What the two processes tell each other. */
struct shared {
    volatile long opened, resident;
    volatile double seconds;
    volatile uint64_t bytes;
};

static double now_s(void)
{
    return (double)clock_now_ns() / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t on_now(void *ctx)
{
    (void)ctx;
    return clock_now_ns();
}

static void watch_udp(struct peer *p, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = &p->udp};
    (void)epoll_ctl(p->loop.epoll_fd, EPOLL_CTL_MOD, p->fd, &e);
}

static bool on_send(void *ctx, const struct quic_path *path, const void *bytes, size_t n,
                    size_t segment)
{
    struct peer *p = ctx;
    struct iovec iov = {(void *)bytes, n};
    char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct msghdr m = {.msg_name = (void *)&path->remote.sa,
                       .msg_namelen = path->remote.len,
                       .msg_iov = &iov,
                       .msg_iovlen = 1};
    if (p->one_by_one && n > segment) {
        for (struct str left = {bytes, n}; left.n > 0; left = str_skip(left, segment))
            (void)on_send(ctx, path, left.p, left.n < segment ? left.n : segment, segment);
        return true;
    }
    if (n > segment) {
        m.msg_control = control;
        m.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        uint16_t size = (uint16_t)segment;
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(c), &size, sizeof size);
    }
    if (sendmsg(p->fd, &m, MSG_DONTWAIT) >= 0 || errno != EAGAIN)
        return true;
    watch_udp(p, EPOLLIN | EPOLLOUT);
    return false;
}

static void on_timer(void *ctx, uint64_t at_ns)
{
    struct peer *p = ctx;
    alarm_set(&p->alarm, at_ns);
}

static bool on_may_connect(void *ctx, const struct key *peer)
{
    (void)ctx, (void)peer;
    return true;
}

static void on_up(void *ctx, struct session *s)
{
    struct peer *p = ctx;
    p->session = s;
}

static void on_down(void *ctx, struct session *s, const char *reason)
{
    struct peer *p = ctx;
    (void)s;
    p->session = NULL;
    (void)fprintf(stderr, "session down: %s\n", reason);
}

static void on_path(void *ctx, struct session *s, const struct quic_path *path, bool ok)
{
    (void)ctx, (void)s, (void)path, (void)ok;
}

static struct shared *shared_of;

/* Bulk: the reader's socket. Dial: one end of a pair whose other end is closed. Keep: all have the
 * same socket, because a process may not have descriptors without end. */
static void on_open(void *ctx, struct session_stream *st, struct str service)
{
    struct peer *p = ctx;
    int fds[2];
    shared_of->opened++;
    if (str_eq(service, STR("bulk"))) {
        session_take(st, p->kept_fd);
        return;
    }
    if (str_eq(service, STR("keep"))) {
        session_take(st, fcntl(p->pair[0], F_DUPFD_CLOEXEC, 0));
        return;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        die("socketpair");
    session_take(st, fds[0]);
    close(fds[1]);
}

static void on_answered(void *ctx, struct session *s, void *user, unsigned reason)
{
    struct peer *p = ctx;
    (void)s, (void)user;
    if (reason != STREAM_TAKEN) {
        (void)fprintf(stderr, "stream: %s\n", stream_reason_word(reason));
        exit(1);
    }
    if (p->times)
        p->times[p->answered] = now_s() - p->began;
    if (++p->answered == p->wanted)
        loop_stop(&p->loop);
}

static const struct session_host host = {
    .now = on_now,
    .send = on_send,
    .timer = on_timer,
    .may_connect = on_may_connect,
    .up = on_up,
    .down = on_down,
    .path_proven = on_path,
    .open = on_open,
    .answered = on_answered,
};

static void on_ring(struct alarm *a)
{
    endpoint_expire(container_of(a, struct peer, alarm)->endpoint);
}

static bool receive(struct peer *p)
{
    static uint8_t bytes[65536];
    struct addr from = {.len = sizeof from.v6};
    struct iovec iov = {bytes, sizeof bytes};
    char control[128];
    struct msghdr m = {.msg_name = &from.sa,
                       .msg_namelen = from.len,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof control};
    ssize_t n = recvmsg(p->fd, &m, MSG_DONTWAIT);
    if (n <= 0)
        return false;
    size_t segment = (size_t)n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            segment = (size_t)size;
        }
    struct quic_path path = {0, addr_from(&from.sa, m.msg_namelen)};
    endpoint_input(p->endpoint, &path, bytes, (size_t)n, segment);
    return true;
}

static void on_udp(struct watch *w, uint32_t events)
{
    struct peer *p = container_of(w, struct peer, udp);
    if (events & EPOLLOUT) {
        watch_udp(p, EPOLLIN);
        endpoint_resume(p->endpoint, 0);
    }
    for (int i = 0; i < READS_A_TURN && receive(p); i++)
        continue;
}

/* The bare round trip: what comes goes back. */
static void on_echo(struct watch *w, uint32_t events)
{
    struct peer *p = container_of(w, struct peer, echo);
    struct addr from = {.len = sizeof from.v6};
    uint8_t bytes[64];
    (void)events;
    ssize_t n = recvfrom(p->echo_fd, bytes, sizeof bytes, MSG_DONTWAIT, &from.sa, &from.len);
    if (n > 0)
        (void)sendto(p->echo_fd, bytes, (size_t)n, 0, &from.sa, from.len);
}

static int udp_socket(struct addr *ret_addr)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = SOCKET_BUFFER;
    *ret_addr = addr_make(AF_INET, (uint8_t[]){127, 0, 0, 1}, 0);
    if (fd < 0 || bind(fd, &ret_addr->sa, ret_addr->len) < 0 ||
        getsockname(fd, &ret_addr->sa, &ret_addr->len) < 0)
        die("udp socket");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return fd;
}

static void peer_start(struct peer *p, const struct identity *id)
{
    int on = !p->one_by_one;
    p->udp = (struct watch){.fd = -EBADF, .ready = on_udp};
    p->echo = (struct watch){.fd = -EBADF, .ready = on_echo};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->pair) < 0 ||
        loop_init(&p->loop) < 0 || alarm_init(&p->alarm, &p->loop, on_ring) < 0 ||
        endpoint_new(&host, p, &p->loop, id, &p->endpoint) < 0 ||
        loop_watch(&p->loop, &p->udp, p->fd, EPOLLIN) < 0 ||
        loop_watch(&p->loop, &p->echo, p->echo_fd, EPOLLIN) < 0)
        die("peer");
    (void)setsockopt(p->fd, SOL_UDP, UDP_GRO, &on, sizeof on);
}

static long resident_kib(void)
{
    long total, pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%ld %ld", &total, &pages) != 2)
        die("statm");
    (void)fclose(f);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static void serve_tick(struct timer *t);

struct server {
    struct peer peer;
    struct timer tick;
};

static void serve_tick(struct timer *t)
{
    struct server *s = container_of(t, struct server, tick);
    shared_of->resident = resident_kib();
    loop_timer(&s->peer.loop, t, 100);
}

static void serve(struct peer *p, const struct identity *id)
{
    struct server s = {.peer = *p, .tick = {.fire = serve_tick}};
    peer_start(&s.peer, id);
    loop_timer(&s.peer.loop, &s.tick, 100);
    loop_run(&s.peer.loop);
    exit(0);
}

static struct session *client_start(struct peer *p, const struct identity *id,
                                    const struct key *other)
{
    struct session *s;
    struct quic_path path = {0, p->other};
    peer_start(p, id);
    if (session_connect(p->endpoint, other, &path, &s) < 0)
        die("connect");
    return s;
}

static void dial(struct peer *p, struct session *s, const char *service)
{
    int fds[2] = {-EBADF, -EBADF};
    if (strcmp(service, "keep") == 0)
        fds[0] = fcntl(p->pair[0], F_DUPFD_CLOEXEC, 0);
    else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        die("socketpair");
    p->kept_fd = fds[1];
    if (session_dial(s, str_of(service), fds[0], NULL) < 0)
        die("dial");
}

static void wait_answers(struct peer *p, long wanted)
{
    p->wanted = wanted;
    p->loop.stopped = p->answered >= wanted;
    loop_run(&p->loop);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bare_trips(const struct addr *to, long count, double *ret_times)
{
    struct addr own;
    int fd = udp_socket(&own);
    for (long i = 0; i < count; i++) {
        char byte = 'x';
        double began = now_s();
        if (sendto(fd, &byte, 1, 0, &to->sa, to->len) != 1 || recv(fd, &byte, 1, 0) != 1)
            die("echo");
        ret_times[i] = now_s() - began;
    }
    close(fd);
}

static void run_dial(struct peer *p, struct session *s, const struct addr *echo, long count)
{
    double *bare = calloc((size_t)count, sizeof *bare);
    double *times = calloc((size_t)count + 1, sizeof *times);
    dial(p, s, "dial");
    wait_answers(p, 1);
    bare_trips(echo, count, bare);
    p->times = times;
    p->answered = 0;
    for (long i = 0; i < count; i++) {
        p->began = now_s();
        dial(p, s, "dial");
        wait_answers(p, i + 1);
        close(p->kept_fd);
    }
    qsort(bare, (size_t)count, sizeof *bare, by_size);
    qsort(times, (size_t)count, sizeof *times, by_size);
    printf("dials=%ld dial_us=%.0f dial_p99_us=%.0f rtt_us=%.0f rtt_p99_us=%.0f\n", count,
           times[count / 2] * 1e6, times[count * 99 / 100] * 1e6, bare[count / 2] * 1e6,
           bare[count * 99 / 100] * 1e6);
    free(times);
    free(bare);
}

static void run_streams(struct peer *p, struct session *s, long count)
{
    dial(p, s, "keep");
    wait_answers(p, 1);
    usleep(150000);
    long client = resident_kib(), server = shared_of->resident;
    double began = now_s();
    for (long i = 0; i < count; i++) {
        dial(p, s, "keep");
        if (i % 500 == 499)
            wait_answers(p, i + 2);
    }
    wait_answers(p, count + 1);
    double seconds = now_s() - began;
    usleep(250000);
    printf("streams=%ld opened_per_second=%.0f client_bytes_each=%ld server_bytes_each=%ld\n",
           count, (double)count / seconds, (resident_kib() - client) * 1024 / count,
           (shared_of->resident - server) * 1024 / count);
}

static void write_bulk(int fd, double seconds)
{
    static uint8_t bytes[BULK_BUFFER];
    for (double end = now_s() + seconds; now_s() < end;)
        if (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) < 0)
            die("bulk write");
    exit(0);
}

static void read_bulk(int fd)
{
    static uint8_t bytes[BULK_BUFFER];
    double began = 0;
    for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0)) > 0;) {
        if (began == 0)
            began = now_s();
        shared_of->bytes += (uint64_t)n;
        shared_of->seconds = now_s() - began;
    }
    exit(0);
}

static void bulk_pair(int fds[2])
{
    int size = SOCKET_BUFFER;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        die("socketpair");
    for (int i = 0; i < 2; i++)
        if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
            (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static double cpu_s(pid_t pid)
{
    char path[64];
    unsigned long user = 0, kernel = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    if (fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &kernel) != 2)
        user = kernel = 0;
    (void)fclose(f);
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static pid_t start(void)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    return pid;
}

/* The reader hears the end when the peers are gone, so it says what it had by then. */
static void run_bulk(struct peer *client, struct peer *server, const struct identity ids[2],
                     double seconds)
{
    int in[2], out[2], status;
    pid_t pids[4];
    bulk_pair(in);
    bulk_pair(out);
    server->kept_fd = out[0];
    if ((pids[0] = start()) == 0)
        serve(server, &ids[1]);
    if ((pids[1] = start()) == 0) {
        struct session *s = client_start(client, &ids[0], &ids[1].key);
        if (session_dial(s, STR("bulk"), in[0], NULL) < 0)
            die("dial");
        loop_run(&client->loop);
    }
    if ((pids[2] = start()) == 0)
        read_bulk(out[1]);
    if ((pids[3] = start()) == 0)
        write_bulk(in[1], seconds);
    (void)waitpid(pids[3], &status, 0);
    double cpu = cpu_s(pids[0]) + cpu_s(pids[1]);
    uint64_t bytes = shared_of->bytes;
    double took = shared_of->seconds;
    for (int i = 0; i < 3; i++) {
        (void)kill(pids[i], SIGKILL);
        (void)waitpid(pids[i], &status, 0);
    }
    printf("bulk_gbit=%.2f seconds=%.2f cpu_s_per_gb=%.2f segments=%d\n",
           (double)bytes * 8 / took / 1e9, took, cpu / ((double)bytes / 1e9),
           client->one_by_one ? 1 : 0);
}

static void run_two(const char *what, struct peer *client, struct peer *server,
                    const struct identity ids[2], long count, const struct addr *echo)
{
    int status;
    pid_t pid = start();
    if (pid == 0)
        serve(server, &ids[1]);
    struct session *s = client_start(client, &ids[0], &ids[1].key);
    if (strcmp(what, "dial") == 0)
        run_dial(client, s, echo, count);
    else
        run_streams(client, s, count);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
}

int main(int argc, char **argv)
{
    struct identity ids[2];
    struct addr addrs[2], echo;
    struct rlimit files;
    struct peer peers[2] = {{.fd = -EBADF}, {.fd = -EBADF}};
    if (argc < 3)
        return 2;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (keys_init() < 0)
        return 1;
    shared_of =
        mmap(NULL, sizeof *shared_of, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 2; i++) {
        identity_make(&ids[i]);
        peers[i].fd = udp_socket(&addrs[i]);
        peers[i].echo_fd = udp_socket(&echo);
        peers[i].one_by_one = argc > 3 && strcmp(argv[3], "1") == 0;
    }
    peers[0].other = addrs[1];
    if (strcmp(argv[1], "bulk") == 0)
        run_bulk(&peers[0], &peers[1], ids, atof(argv[2]));
    else
        run_two(argv[1], &peers[0], &peers[1], ids, atol(argv[2]), &echo);
    return 0;
}
