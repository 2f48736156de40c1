/* A responder for one page: bytes of local clients come in, the page goes out. It owns its
 * listening socket and its clients; the page is counted, because a slow client may still read the
 * one before. */
#include "berthd/metrics-http.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "berthd/exposition.h"

#define CLIENT_MS   10000
#define PAGE_AGE_MS 1000
#define HEAD_MAX    256

struct metrics_page {
    unsigned refs;
    uint64_t made_ms;
    size_t n;
    char *text;
};

struct client {
    struct list link;
    struct metrics_http *metrics;
    int fd; /* owned */
    struct watch watch;
    struct timer deadline;
    size_t have;
    char request[METRICS_REQUEST_MAX];
    bool answering, answered;
    size_t head_n, sent; /* sent: of head and body */
    char head[HEAD_MAX];
    struct metrics_page *page; /* counted; NULL: no body */
};

static void page_unref(struct metrics_page *p)
{
    if (!p || --p->refs > 0)
        return;
    free(p->text);
    free(p);
}

static struct metrics_page *page_ref(struct metrics_page *p)
{
    if (p)
        p->refs++;
    return p;
}

/* The newest page, made anew when it is old. */
static struct metrics_page *page_get(struct metrics_http *m)
{
    uint64_t now = clock_now_ms();
    if (m->page && now - m->page->made_ms < PAGE_AGE_MS)
        return m->page;
    struct metrics_page *p = calloc(1, sizeof *p);
    char *text = p ? m->make(m->ctx) : NULL;
    if (!text) {
        free(p);
        return NULL;
    }
    *p = (struct metrics_page){.refs = 1, .made_ms = now, .n = strlen(text), .text = text};
    page_unref(m->page);
    m->page = p;
    return p;
}

static void client_free(struct client *c)
{
    loop_unwatch(c->metrics->loop, &c->watch);
    loop_untimer(&c->deadline);
    (void)fd_close(c->fd);
    list_remove(&c->link);
    c->metrics->client_count--;
    page_unref(c->page);
    free(c);
}

static void deadline_fired(struct timer *t)
{
    client_free(container_of(t, struct client, deadline));
}

/* Head first, then the body. 0: all is sent. */
static int send_more(struct client *c)
{
    size_t body = c->page ? c->page->n : 0;
    while (c->sent < c->head_n + body) {
        const char *p =
            c->sent < c->head_n ? c->head + c->sent : c->page->text + (c->sent - c->head_n);
        size_t n = c->sent < c->head_n ? c->head_n - c->sent : c->head_n + body - c->sent;
        ssize_t sent = send(c->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            return -errno;
        c->sent += (size_t)sent;
    }
    return 0;
}

static void client_watch(struct client *c, uint32_t events)
{
    loop_unwatch(c->metrics->loop, &c->watch);
    if (loop_watch(c->metrics->loop, &c->watch, c->fd, events) < 0)
        client_free(c);
}

/* A socket that is closed with bytes unread takes the answer back, where that is still under way:
 * it is the client that closes. */
static void answer_continue(struct client *c)
{
    int r = send_more(c);
    if (r == -EAGAIN) {
        client_watch(c, EPOLLOUT);
    } else if (r < 0 || shutdown(c->fd, SHUT_WR) < 0) {
        client_free(c);
    } else {
        c->answered = true;
        client_watch(c, EPOLLIN);
    }
}

static void rest_read(struct client *c)
{
    ssize_t n = recv(c->fd, c->request, sizeof c->request, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        client_free(c);
}

static void answer(struct client *c, const char *status, struct metrics_page *page, bool body)
{
    size_t length = page ? page->n : 0;
    c->page = body ? page_ref(page) : NULL;
    c->head_n = (size_t)snprintf(c->head, sizeof c->head,
                                 "HTTP/1.1 %s\r\nContent-Type: " EXPOSITION_TYPE
                                 "\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
                                 status, length);
    c->answering = true;
    answer_continue(c);
}

/* "METHOD /path", with or without a query. */
static void request_answer(struct client *c)
{
    struct str line = {c->request, c->have}, path;
    bool get = str_starts(line, STR("GET ")), head = str_starts(line, STR("HEAD "));
    path = str_skip(line, get ? 4 : 5);
    bool known =
        str_starts(path, STR("/metrics")) && path.n > 8 && (path.p[8] == ' ' || path.p[8] == '?');
    struct metrics_page *page = known && (get || head) ? page_get(c->metrics) : NULL;
    if (page)
        answer(c, "200 OK", page, get);
    else if (!get && !head)
        answer(c, "405 Method Not Allowed", NULL, false);
    else
        answer(c, known ? "503 Service Unavailable" : "404 Not Found", NULL, false);
}

static bool head_is_whole(const struct client *c)
{
    return memmem(c->request, c->have, "\r\n\r\n", 4) || memmem(c->request, c->have, "\n\n", 2);
}

static void client_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct client *c = container_of(w, struct client, watch);
    if (c->answered) {
        rest_read(c);
        return;
    }
    if (c->answering) {
        answer_continue(c);
        return;
    }
    ssize_t n = recv(c->fd, c->request + c->have, sizeof c->request - c->have, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        client_free(c);
        return;
    }
    c->have += (size_t)n;
    if (head_is_whole(c))
        request_answer(c);
    else if (c->have == sizeof c->request)
        answer(c, "431 Request Header Fields Too Large", NULL, false);
}

static void client_new_consume(struct metrics_http *m, int fd)
{
    struct client *c = calloc(1, sizeof *c);
    if (!c) {
        (void)fd_close(fd);
        return;
    }
    c->metrics = m;
    c->fd = fd;
    c->watch.fd = -EBADF;
    c->watch.ready = client_ready;
    c->deadline.fire = deadline_fired;
    list_append(&m->clients, &c->link);
    m->client_count++;
    loop_timer(m->loop, &c->deadline, CLIENT_MS);
    if (loop_watch(m->loop, &c->watch, fd, EPOLLIN) < 0)
        client_free(c);
}

/* The oldest gives way: nobody can keep others out by holding connections. */
static void accepted_consume(struct acceptor *a, int fd)
{
    struct metrics_http *m = container_of(a, struct metrics_http, acceptor);
    if (m->client_count >= METRICS_CLIENTS_MAX)
        client_free(container_of(m->clients.next, struct client, link));
    client_new_consume(m, fd);
}

void metrics_http_init(struct metrics_http *m, struct loop *l, char *(*make)(void *ctx), void *ctx)
{
    *m = (struct metrics_http){.loop = l, .make = make, .ctx = ctx};
    acceptor_init(&m->acceptor, l, accepted_consume);
    m->acceptor.flags = SOCK_NONBLOCK;
    list_init(&m->clients);
}

/* Only a socket is replaced, and whoever connects finds the old one or the new one. */
static int bind_unix(int fd, const struct addr *where)
{
    struct stat st;
    struct addr made = *where;
    size_t len = strlen(where->un.sun_path);
    if (lstat(where->un.sun_path, &st) == 0 && !S_ISSOCK(st.st_mode))
        return -EEXIST;
    if (len == 0 || len + 5 > sizeof made.un.sun_path)
        return -ENAMETOOLONG;
    memcpy(made.un.sun_path + len, ".new", 5);
    (void)unlink(made.un.sun_path);
    if (bind(fd, &made.sa, sizeof made.un) < 0 || chmod(made.un.sun_path, 0600) < 0 ||
        listen(fd, SOMAXCONN) < 0 || rename(made.un.sun_path, where->un.sun_path) < 0)
        return -errno;
    return 0;
}

static int bind_loopback(int fd, const struct addr *where)
{
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, &where->sa, where->len) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    return 0;
}

static int listen_at(const struct addr *where)
{
    if (!addr_is_loopback(where))
        return -EINVAL;
    CLEANUP_FD int fd = socket(where->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = where->sa.sa_family == AF_UNIX ? bind_unix(fd, where) : bind_loopback(fd, where);
    return r < 0 ? r : fd_take(&fd);
}

int metrics_http_listen(struct metrics_http *m, const struct addr *where)
{
    if (m->acceptor.fd >= 0 && addr_equal(&m->where, where))
        return 0;
    int fd = where->sa.sa_family == AF_UNSPEC ? -EBADF : listen_at(where);
    if (fd < 0 && fd != -EBADF)
        return fd;
    metrics_http_stop(m);
    if (fd < 0)
        return 0;
    m->where = *where;
    int r = acceptor_open_consume(&m->acceptor, fd);
    if (r < 0)
        metrics_http_stop(m);
    return r;
}

void metrics_http_stop(struct metrics_http *m)
{
    list_for_each(c, &m->clients, struct client, link) client_free(c);
    page_unref(m->page);
    m->page = NULL;
    if (m->acceptor.fd >= 0 && m->where.sa.sa_family == AF_UNIX)
        (void)unlink(m->where.un.sun_path);
    acceptor_close(&m->acceptor);
}
