/* The program behind every front that is measured: a single-threaded epoll HTTP/1.1 server. It
 * answers 128 bytes, or /1m and /64m from one memory file by sendfile, keeps connections alive
 * unless told to close, and knows nothing of berth: socket, bind, listen, accept4. Each struct conn
 * owns its socket and goes back to a free list when it is closed. Options make it a worker of a
 * pool: one that says goodbye when it is told to end, and one that takes its time. */

#include "base/fd.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>

#define REQUEST_MAX 2048u
#define EVENTS_MAX  256
#define ACCEPT_MAX  256
#define SMALL_BODY  128u
#define BODY_MAX    (64u << 20)
#define BACKLOG     65535

struct conn {
    int fd;
    uint32_t watched;
    struct conn *next_free;
    size_t request_len;
    off_t body_sent;
    off_t body_size;
    bool answering;
    bool close_after;
    char request[REQUEST_MAX];
};

struct settings {
    uint16_t port;
    /* A listening socket that is there already, or -EBADF. */
    int listen_fd;
    /* How long one answer takes: nothing else is done meanwhile, as in a program without threads
     * that waits for its database. */
    unsigned work_us;
    /* The one process that gets the lock on this file is the slow one. */
    const char *slow_lock;
    unsigned slow_us;
    bool reuseport;
    /* TERM: takes no more, answers what comes with "Connection: close", and ends after the last. */
    bool graceful;
    /* Without the large bodies. */
    bool small;
};

struct server {
    const struct settings *settings;
    int listen_fd;
    int epoll_fd;
    int body_fd;
    int term_fd;
    size_t open;
    bool leaving;
    struct conn *free_list;
};

enum step { STEP_WAIT_READ, STEP_WAIT_WRITE, STEP_CLOSE };

static struct conn *conn_new(struct server *server, int fd)
{
    struct conn *conn = server->free_list;
    if (conn)
        server->free_list = conn->next_free;
    else
        conn = malloc(sizeof *conn);
    if (!conn)
        return NULL;
    conn->fd = fd;
    conn->watched = 0;
    conn->request_len = 0;
    conn->answering = false;
    server->open++;
    return conn;
}

static void conn_close(struct server *server, struct conn *conn)
{
    conn->fd = fd_close(conn->fd);
    conn->next_free = server->free_list;
    server->free_list = conn;
    server->open--;
}

static int conn_watch(struct server *server, struct conn *conn, uint32_t events)
{
    if (conn->watched == events)
        return 0;
    struct epoll_event event = {.events = events, .data.ptr = conn};
    int op = conn->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(server->epoll_fd, op, conn->fd, &event) < 0)
        return -errno;
    conn->watched = events;
    return 0;
}

static bool request_targets(const struct conn *conn, const char *target)
{
    size_t n = strlen(target);
    return conn->request_len > n + 4 && memcmp(conn->request + 4, target, n) == 0;
}

static void request_decide(const struct server *server, struct conn *conn, size_t head_len)
{
    conn->close_after = server->leaving ||
                        memmem(conn->request, head_len, "Connection: close", 17) ||
                        memmem(conn->request, head_len, "connection: close", 17);
    conn->body_sent = 0;
    conn->body_size = SMALL_BODY;
    if (request_targets(conn, "/1m "))
        conn->body_size = 1 << 20;
    else if (request_targets(conn, "/64m "))
        conn->body_size = BODY_MAX;
    if (server->body_fd < 0)
        conn->body_size = SMALL_BODY;
}

static void work(unsigned us)
{
    struct timespec left = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};
    while (us > 0 && nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

static enum step answer_body(struct server *server, struct conn *conn)
{
    while (conn->body_sent < conn->body_size) {
        size_t left = (size_t)(conn->body_size - conn->body_sent);
        ssize_t n = sendfile(conn->fd, server->body_fd, &conn->body_sent, left);
        if (n < 0 && errno == EAGAIN)
            return STEP_WAIT_WRITE;
        if (n <= 0)
            return STEP_CLOSE;
    }
    conn->answering = false;
    return conn->close_after ? STEP_CLOSE : STEP_WAIT_READ;
}

static enum step answer_start(struct server *server, struct conn *conn)
{
    static const char body[SMALL_BODY] = {[0 ... SMALL_BODY - 1] = 'b'};
    char answer[512];
    int n =
        snprintf(answer, sizeof answer,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %lld\r\n%s\r\n",
                 (long long)conn->body_size, conn->close_after ? "Connection: close\r\n" : "");
    bool small = conn->body_size == SMALL_BODY;
    if (small) {
        memcpy(answer + n, body, sizeof body);
        n += (int)sizeof body;
        conn->body_sent = conn->body_size;
    }
    /* The buffer of a connection with nothing in flight always has room for one head. */
    if (send(conn->fd, answer, (size_t)n, MSG_NOSIGNAL | (small ? 0 : MSG_MORE)) != n)
        return STEP_CLOSE;
    conn->answering = true;
    return answer_body(server, conn);
}

/* One request is read, answered, and only then the next one looked at. */
static enum step conn_read(struct server *server, struct conn *conn)
{
    size_t room = REQUEST_MAX - conn->request_len;
    ssize_t n = recv(conn->fd, conn->request + conn->request_len, room, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? STEP_WAIT_READ : STEP_CLOSE;
    if (n == 0)
        return STEP_CLOSE;
    conn->request_len += (size_t)n;
    const char *end = memmem(conn->request, conn->request_len, "\r\n\r\n", 4);
    if (!end)
        return conn->request_len == REQUEST_MAX ? STEP_CLOSE : STEP_WAIT_READ;
    work(server->settings->work_us);
    request_decide(server, conn, (size_t)(end - conn->request) + 4);
    conn->request_len = 0;
    return answer_start(server, conn);
}

static void conn_step(struct server *server, struct conn *conn)
{
    /* Another process may still hold the socket that was closed here, and epoll goes by open files,
     * not by descriptors: the event is nobody's. */
    if (conn->fd < 0)
        return;
    enum step step = conn->answering ? answer_body(server, conn) : conn_read(server, conn);
    uint32_t events = step == STEP_WAIT_WRITE ? EPOLLOUT : EPOLLIN;
    if (step == STEP_CLOSE || conn_watch(server, conn, events) < 0)
        conn_close(server, conn);
}

static void server_accept(struct server *server)
{
    /* Who is slow takes one at a time. */
    int most = server->settings->work_us ? 1 : ACCEPT_MAX;
    for (int i = 0; i < most; i++) {
        int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *conn = conn_new(server, fd);
        if (!conn)
            (void)fd_close(fd);
        else if (conn_watch(server, conn, EPOLLIN) < 0)
            conn_close(server, conn);
    }
}

static void server_leave(struct server *server)
{
    server->leaving = true;
    server->listen_fd = fd_close(server->listen_fd);
    server->term_fd = fd_close(server->term_fd);
}

static int server_loop(struct server *server)
{
    struct epoll_event events[EVENTS_MAX];
    while (!server->leaving || server->open > 0) {
        int n = epoll_wait(server->epoll_fd, events, EVENTS_MAX, -1);
        if (n < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == server)
                server_accept(server);
            else if (events[i].data.ptr == &server->term_fd)
                server_leave(server);
            else
                conn_step(server, events[i].data.ptr);
        }
    }
    return 0;
}

static int listener_open(const struct settings *settings)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(settings->port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, option = settings->reuseport ? SO_REUSEPORT : SO_REUSEADDR;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, option, &on, sizeof on) < 0 ||
        bind(fd, (const struct sockaddr *)&at, sizeof at) < 0 || listen(fd, BACKLOG) < 0) {
        int r = -errno;
        (void)fd_close(fd);
        return r;
    }
    return fd;
}

static int server_watch(const struct server *server, int fd, const void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = (void *)what};
    return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int server_await_term(struct server *server)
{
    sigset_t term;
    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &term, NULL);
    server->term_fd = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
    if (server->term_fd < 0)
        return -errno;
    return server_watch(server, server->term_fd, &server->term_fd);
}

static int server_open(struct server *server)
{
    const struct settings *settings = server->settings;
    server->listen_fd = settings->listen_fd >= 0 ? settings->listen_fd : listener_open(settings);
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->listen_fd < 0)
        return server->listen_fd;
    if (server->epoll_fd < 0)
        return -errno;
    int r = settings->graceful ? server_await_term(server) : 0;
    return r < 0 ? r : server_watch(server, server->listen_fd, server);
}

/* The pages are written once, so that sendfile never meets a hole. */
static int body_open(void)
{
    int fd = memfd_create("bench-body", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    char block[1 << 16];
    memset(block, 'b', sizeof block);
    for (size_t done = 0; done < BODY_MAX; done += sizeof block) {
        if (write(fd, block, sizeof block) != (ssize_t)sizeof block) {
            (void)fd_close(fd);
            return -EIO;
        }
    }
    return fd;
}

static void limit_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

enum option_key {
    OPT_SMALL = 1,
    OPT_GRACEFUL,
    OPT_REUSEPORT,
    OPT_WORK,
    OPT_SLOW,
    OPT_LOCK,
    OPT_FD
};

static const struct option options[] = {
    {"small", no_argument, NULL, OPT_SMALL},
    {"graceful", no_argument, NULL, OPT_GRACEFUL},
    {"reuseport", no_argument, NULL, OPT_REUSEPORT},
    {"work-us", required_argument, NULL, OPT_WORK},
    {"slow-us", required_argument, NULL, OPT_SLOW},
    {"slow-lock", required_argument, NULL, OPT_LOCK},
    {"listen-fd", required_argument, NULL, OPT_FD},
    {NULL, 0, NULL, 0},
};

static int number_parse(const char *text, unsigned max, unsigned *ret_value)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end || value > max)
        return -EINVAL;
    *ret_value = (unsigned)value;
    return 0;
}

static int option_take(struct settings *settings, int key, const char *text)
{
    unsigned fd = 0;
    switch (key) {
    case OPT_SMALL:
        settings->small = true;
        return 0;
    case OPT_GRACEFUL:
        settings->graceful = true;
        return 0;
    case OPT_REUSEPORT:
        settings->reuseport = true;
        return 0;
    case OPT_WORK:
        return number_parse(text, 10000000, &settings->work_us);
    case OPT_SLOW:
        return number_parse(text, 10000000, &settings->slow_us);
    case OPT_LOCK:
        settings->slow_lock = text;
        return 0;
    case OPT_FD:
        if (number_parse(text, 1000000, &fd) < 0 || fcntl((int)fd, F_SETFL, O_NONBLOCK) < 0)
            return -EINVAL;
        settings->listen_fd = (int)fd;
        return 0;
    default:
        return -EINVAL;
    }
}

static int settings_parse(struct settings *settings, int argc, char **argv)
{
    unsigned port = 0;
    int key, r = 0;
    *settings = (struct settings){.listen_fd = -EBADF};
    while (r == 0 && (key = getopt_long(argc, argv, "", options, NULL)) != -1)
        r = option_take(settings, key, optarg);
    if (r == 0 && (optind + 1 != argc || number_parse(argv[optind], UINT16_MAX, &port) < 0))
        r = -EINVAL;
    settings->port = (uint16_t)port;
    return r < 0 || (port == 0 && settings->listen_fd < 0) ? -EINVAL : 0;
}

/* The lock is kept, and its descriptor with it, as long as this process lives. */
static void become_slow_perhaps(struct settings *settings)
{
    int fd = settings->slow_lock ? open(settings->slow_lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600)
                                 : -EBADF;
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        settings->work_us = settings->slow_us;
    else
        (void)fd_close(fd);
}

int main(int argc, char **argv)
{
    struct settings settings;
    if (settings_parse(&settings, argc, argv) < 0) {
        fputs("usage: worker [--small] [--graceful] [--reuseport] [--work-us N]\n"
              "              [--slow-us N --slow-lock FILE] [--listen-fd FD] PORT\n",
              stderr);
        return 2;
    }
    limit_raise();
    become_slow_perhaps(&settings);
    /* Sleeps end when they should, not up to 50 us later. */
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    /* sendfile() has no MSG_NOSIGNAL. */
    (void)signal(SIGPIPE, SIG_IGN);
    struct server server = {.settings = &settings,
                            .listen_fd = -EBADF,
                            .epoll_fd = -EBADF,
                            .term_fd = -EBADF,
                            .body_fd = settings.small ? -EBADF : body_open()};
    int r = !settings.small && server.body_fd < 0 ? server.body_fd : server_open(&server);
    if (r == 0)
        r = server_loop(&server);
    if (r < 0)
        fprintf(stderr, "worker: stopped error=%s\n", strerror(-r));
    return r < 0;
}
