/* The keeper shares dispatch's descriptors (CLONE_FILES), but no memory except the slots, and does
 * nothing until dispatch is dead. Then every connection in the table is one that nobody has: but
 * those that were on their way to a queue. It ends when it has passed them on, and only then berthd
 * sees that its channel is closed. It reads no byte. */
#include "dispatchd/keeper.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "ipc/fdmsg.h"

#define CHUNK 1024

static int socket_number(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

/* One that was refused has been shut down by us already. */
static bool tcp_is_open(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           (info.tcpi_state == TCP_ESTABLISHED || info.tcpi_state == TCP_CLOSE_WAIT);
}

/* An accepted one has the name of its listener; a socket for log lines has none. */
static bool unix_has_name(int fd)
{
    struct sockaddr_un un;
    socklen_t len = sizeof un;
    return getsockname(fd, (struct sockaddr *)&un, &len) == 0 &&
           len > offsetof(struct sockaddr_un, sun_path);
}

static bool is_connection(int fd)
{
    int domain = socket_number(fd, SO_DOMAIN);
    if (socket_number(fd, SO_TYPE) != SOCK_STREAM || socket_number(fd, SO_ACCEPTCONN) != 0)
        return false;
    return domain == AF_UNIX ? unix_has_name(fd) : tcp_is_open(fd);
}

static bool is_sent(const struct keeper_slot *slots, int fd)
{
    for (size_t i = 0; i < DISPATCH_THREADS; i++)
        if (atomic_load(&slots[i].sending) == fd)
            return true;
    return false;
}

struct batch {
    int to;
    int fds[FDMSG_FDS_MAX];
    size_t count;
};

static void batch_send(struct batch *b)
{
    if (b->count > 0)
        (void)!fdmsg_send(b->to, "", 1, b->fds, b->count, MSG_DONTWAIT);
    for (size_t i = 0; i < b->count; i++)
        (void)fd_close(b->fds[i]);
    b->count = 0;
}

static void chunk_pass_on(struct batch *b, const struct keeper_slot *slots, int from, int n)
{
    struct pollfd p[CHUNK];
    for (int i = 0; i < n; i++)
        p[i] = (struct pollfd){.fd = from + i};
    if (poll(p, (nfds_t)n, 0) < 0)
        return;
    for (int i = 0; i < n; i++) {
        if (p[i].revents & POLLNVAL || !is_connection(p[i].fd))
            continue;
        /* Ours may be the last copy but the program's, which waits for it to go. */
        if (is_sent(slots, p[i].fd)) {
            (void)fd_close(p[i].fd);
            continue;
        }
        b->fds[b->count++] = p[i].fd;
        if (b->count == FDMSG_FDS_MAX)
            batch_send(b);
    }
}

static void keep(int dispatch, int to, const struct keeper_slot *slots)
{
    struct pollfd p = {.fd = dispatch, .events = POLLIN};
    struct batch batch = {.to = to};
    struct rlimit r = {CHUNK, CHUNK};
    (void)prctl(PR_SET_NAME, "berth-keeper");
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    /* Only dispatch is told to end, and we follow. */
    (void)signal(SIGTERM, SIG_IGN);
    while (poll(&p, 1, -1) < 1)
        ;
    (void)getrlimit(RLIMIT_NOFILE, &r);
    int chunk = r.rlim_cur < CHUNK ? (int)r.rlim_cur : CHUNK;
    for (rlim_t fd = STDERR_FILENO + 1; fd < r.rlim_cur; fd += (rlim_t)chunk)
        chunk_pass_on(&batch, slots, (int)fd, chunk);
    batch_send(&batch);
}

pid_t keeper_start(int to, struct keeper_slot **ret_slots)
{
    size_t size = DISPATCH_THREADS * sizeof(struct keeper_slot);
    struct keeper_slot *slots =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int self = pidfd_open(getpid(), 0);
    if (slots == MAP_FAILED || self < 0)
        return -errno;
    for (size_t i = 0; i < DISPATCH_THREADS; i++)
        atomic_store(&slots[i].sending, -1);
    /* By the call itself: no function of the C library makes a process that shares descriptors and
     * goes on from here. No signal when it ends. */
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES, NULL, NULL, NULL, NULL);
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        keep(self, to, slots);
        _exit(0);
    }
    *ret_slots = slots;
    return pid;
}
