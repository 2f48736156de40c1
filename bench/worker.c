/* The program behind every front that is measured: a single-threaded epoll HTTP/1.1 server. It
 * answers 128 bytes, or /1m and /64m from one memory file by sendfile, keeps connections alive
 * unless told to close, and knows nothing of berth: socket, bind, listen, accept4. Each struct conn
 * owns its socket and goes back to a free list when it is closed. */

#include "base/fd.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

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

struct server {
    int listen_fd;
    int epoll_fd;
    int body_fd;
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
    return conn;
}

static void conn_close(struct server *server, struct conn *conn)
{
    conn->fd = fd_close(conn->fd);
    conn->next_free = server->free_list;
    server->free_list = conn;
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

static void request_decide(struct conn *conn, size_t head_len)
{
    conn->close_after = memmem(conn->request, head_len, "Connection: close", 17) ||
                        memmem(conn->request, head_len, "connection: close", 17);
    conn->body_sent = 0;
    conn->body_size = SMALL_BODY;
    if (request_targets(conn, "/1m "))
        conn->body_size = 1 << 20;
    else if (request_targets(conn, "/64m "))
        conn->body_size = BODY_MAX;
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
    request_decide(conn, (size_t)(end - conn->request) + 4);
    conn->request_len = 0;
    return answer_start(server, conn);
}

static void conn_step(struct server *server, struct conn *conn)
{
    enum step step = conn->answering ? answer_body(server, conn) : conn_read(server, conn);
    uint32_t events = step == STEP_WAIT_WRITE ? EPOLLOUT : EPOLLIN;
    if (step == STEP_CLOSE || conn_watch(server, conn, events) < 0)
        conn_close(server, conn);
}

static void server_accept(struct server *server)
{
    for (int i = 0; i < ACCEPT_MAX; i++) {
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

static int server_loop(struct server *server)
{
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int n = epoll_wait(server->epoll_fd, events, EVENTS_MAX, -1);
        if (n < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == server)
                server_accept(server);
            else
                conn_step(server, events[i].data.ptr);
        }
    }
}

static int server_listen(struct server *server, uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server->listen_fd < 0 ||
        setsockopt(server->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(server->listen_fd, (const struct sockaddr *)&at, sizeof at) < 0 ||
        listen(server->listen_fd, BACKLOG) < 0)
        return -errno;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = server};
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll_fd < 0 ||
        epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->listen_fd, &event) < 0)
        return -errno;
    return 0;
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

int main(int argc, char **argv)
{
    char *end = NULL;
    unsigned long port = argc == 2 ? strtoul(argv[1], &end, 10) : 0;
    if (port == 0 || port > UINT16_MAX || *end) {
        fputs("usage: worker PORT\n", stderr);
        return 2;
    }
    limit_raise();
    /* sendfile() has no MSG_NOSIGNAL. */
    (void)signal(SIGPIPE, SIG_IGN);
    struct server server = {.listen_fd = -EBADF, .epoll_fd = -EBADF, .body_fd = body_open()};
    int r = server.body_fd < 0 ? server.body_fd : server_listen(&server, (uint16_t)port);
    if (r == 0)
        r = server_loop(&server);
    fprintf(stderr, "worker: stopped error=%s\n", strerror(-r));
    return 1;
}
