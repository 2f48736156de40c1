/* The asking side, one question at a time, waiting for each answer. Requests come in, answers go
 * out; the socket and the cookie are kept in between. What comes from elsewhere, late or damaged is
 * passed over: an answer has the transaction number of the question, which nobody off the path can
 * know. */
#include "rendezvous/client.h"

#include <netdb.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rd.h"
#include "base/wr.h"

/* A datagram is sent again after 0.4 and 0.8 s, and given up after 1.6 more. */
#define UDP_FIRST_MS 400
#define UDP_TRIES    3
#define TCP_MS       5000
/* A cookie over UDP, one over TCP, the question, and once more when the cookie has just turned. */
#define ROUNDS 8

/* connect() within the time. */
static int connect_within(int fd, const struct addrinfo *a)
{
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof error;
    if (poll(&p, 1, TCP_MS) <= 0)
        return -ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        return -errno;
    return -error;
}

static int connect_any(struct client *c, int type)
{
    struct addrinfo hints = {.ai_socktype = type}, *list = NULL;
    size_t skip = type == SOCK_DGRAM ? c->refused : 0;
    int r = getaddrinfo(c->server.host, c->server.port, &hints, &list);
    if (r != 0)
        return -EHOSTUNREACH;
    r = -EHOSTUNREACH;
    for (const struct addrinfo *a = list; a && c->fd < 0; a = a->ai_next) {
        if (skip > 0) {
            skip--;
            continue;
        }
        CLEANUP_FD int fd = socket(a->ai_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        r = fd < 0 ? -errno : connect_within(fd, a);
        if (r == 0)
            c->fd = fd_take(&fd);
    }
    freeaddrinfo(list);
    return r;
}

int client_open(struct client *c, const char *server)
{
    *c = (struct client){.fd = -EBADF};
    int r = server_name_parse(server, &c->server);
    return r < 0 ? r : connect_any(c, SOCK_DGRAM);
}

void client_close(struct client *c)
{
    c->fd = fd_close(c->fd);
}

/* Waits for bytes until the deadline. -ETIMEDOUT, or 0. */
static int wait_until(int fd, uint64_t deadline_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t now = clock_now_ms();
    int r = now >= deadline_ms ? 0 : poll(&p, 1, (int)(deadline_ms - now) + 1);
    return r > 0 ? 0 : r == 0 || errno == EINTR ? -ETIMEDOUT : -errno;
}

static bool is_answer(struct client *c, size_t n, const struct rdvmsg *m, struct rdvmsg *ret_answer)
{
    return rdvmsg_decode(ret_answer, c->answer, n) == 0 &&
           ret_answer->transaction == m->transaction;
}

/* -ETIMEDOUT, or -ECONNREFUSED where ICMP says that nobody is there. */
static int udp_ask(struct client *c, const struct rdvmsg *m, struct str bytes,
                   struct rdvmsg *ret_answer)
{
    uint64_t wait_ms = UDP_FIRST_MS;
    int r = -ETIMEDOUT;
    for (int i = 0; i < UDP_TRIES; i++, wait_ms *= 2) {
        uint64_t deadline = clock_now_ms() + wait_ms;
        if (send(c->fd, bytes.p, bytes.n, 0) < 0)
            return -errno;
        while ((r = wait_until(c->fd, deadline)) == 0) {
            ssize_t n = recv(c->fd, c->answer, sizeof c->answer, MSG_DONTWAIT);
            if (n >= 0 && is_answer(c, (size_t)n, m, ret_answer))
                return 0;
            if (n < 0 && errno != EAGAIN)
                return -errno;
        }
        if (r != -ETIMEDOUT)
            return r;
    }
    return r;
}

static int read_whole(int fd, uint8_t *to, size_t n, uint64_t deadline_ms)
{
    for (size_t done = 0; done < n;) {
        int r = wait_until(fd, deadline_ms);
        if (r < 0)
            return r;
        ssize_t got = recv(fd, to + done, n - done, MSG_DONTWAIT);
        if (got == 0)
            return -ECONNRESET;
        if (got < 0 && errno != EAGAIN)
            return -errno;
        done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

static int tcp_ask(struct client *c, const struct rdvmsg *m, struct str bytes,
                   struct rdvmsg *ret_answer)
{
    uint8_t out[2 + RDVMSG_MAX], prefix[2];
    struct wr w = wr_init(out, sizeof out);
    uint64_t deadline = clock_now_ms() + TCP_MS;
    wr_vec16(&w, bytes);
    /* One message always fits into the buffer of a connection on which nothing else waits. */
    if (send(c->fd, out, w.used, MSG_NOSIGNAL) != (ssize_t)w.used)
        return -ECONNRESET;
    for (;;) {
        int r = read_whole(c->fd, prefix, sizeof prefix, deadline);
        if (r < 0)
            return r;
        struct rd rd = rd_init(prefix, sizeof prefix);
        size_t n = rd_u16(&rd);
        if (n > sizeof c->answer)
            return -EBADMSG;
        r = read_whole(c->fd, c->answer, n, deadline);
        if (r < 0)
            return r;
        if (is_answer(c, n, m, ret_answer))
            return 0;
    }
}

/* Nobody is at this address: perhaps at the host's next. Or UDP is blocked: TCP knows. The cookie
 * was for the other socket. */
static int turn(struct client *c, int error)
{
    c->fd = fd_close(c->fd);
    memset(c->cookie, 0, sizeof c->cookie);
    c->refused++;
    if (error == -ECONNREFUSED && connect_any(c, SOCK_DGRAM) == 0)
        return 0;
    c->tcp = true;
    return connect_any(c, SOCK_STREAM);
}

static int ask(struct client *c, struct rdvmsg *m, struct rdvmsg *ret_answer)
{
    uint8_t buf[RDVMSG_MAX];
    randombytes_buf(&m->transaction, sizeof m->transaction);
    int n = rdvmsg_encode(m, buf, sizeof buf);
    if (n < 0)
        return n;
    struct str bytes = {(const char *)buf, (size_t)n};
    int r = c->tcp ? tcp_ask(c, m, bytes, ret_answer) : udp_ask(c, m, bytes, ret_answer);
    if (r < 0 || ret_answer->type != RDVMSG_COOKIE_IS)
        return r;
    memcpy(c->cookie, ret_answer->cookie, sizeof c->cookie);
    c->seen = ret_answer->addr;
    return 0;
}

/* Fills in what is made anew for each cookie. */
typedef int (*sign_fn)(const struct client *c, const void *context, struct rdvmsg *m);

/* Asks with the cookie that we have; when the server wants another, it has sent it. */
static int ask_signed(struct client *c, struct rdvmsg *m, sign_fn sign, const void *context,
                      struct rdvmsg *ret_answer)
{
    static const uint8_t none[RDVMSG_COOKIE];
    for (int i = 0; i < ROUNDS; i++) {
        struct rdvmsg hello = {.type = RDVMSG_HELLO, .pad_to = RDVMSG_HELLO_MIN};
        bool first = memcmp(c->cookie, none, sizeof none) == 0;
        int r = 0;
        memcpy(m->cookie, c->cookie, sizeof m->cookie);
        if (!first && sign)
            r = sign(c, context, m);
        if (r == 0)
            r = ask(c, first ? &hello : m, ret_answer);
        if ((r == -ETIMEDOUT || r == -ECONNREFUSED) && !c->tcp)
            r = turn(c, r);
        else if (r == 0 && ret_answer->type != RDVMSG_COOKIE_IS)
            return 0;
        if (r < 0)
            return r;
    }
    return -ETIMEDOUT;
}

struct signing {
    const struct identity *id;
    enum key_purpose purpose;
    struct str what;
};

static int sign_request(const struct client *c, const void *context, struct rdvmsg *m)
{
    const struct signing *s = context;
    return signed_request_make(s->id, s->purpose, c->cookie, s->what, m->signature);
}

int client_register(struct client *c, const struct identity *id, struct str signed_record,
                    struct rdvmsg *ret_answer)
{
    struct rdvmsg m = {.type = RDVMSG_REGISTER, .record = signed_record};
    const struct signing s = {id, KEY_LOGIN, signed_record};
    return ask_signed(c, &m, sign_request, &s, ret_answer);
}

int client_refresh(struct client *c, const struct key *key, const uint8_t token[RDVMSG_COOKIE],
                   struct rdvmsg *ret_answer)
{
    struct rdvmsg m = {.type = RDVMSG_REFRESH};
    memcpy(m.key, key->b, sizeof m.key);
    memcpy(m.token, token, sizeof m.token);
    return ask(c, &m, ret_answer);
}

int client_lookup(struct client *c, struct str name, const struct key *key,
                  struct rdvmsg *ret_answer)
{
    struct rdvmsg m = {.type = RDVMSG_LOOKUP, .name = name};
    if (key)
        memcpy(m.key, key->b, sizeof m.key);
    return ask_signed(c, &m, NULL, NULL, ret_answer);
}

int client_name(struct client *c, const struct identity *id, enum rdvmsg_type type, struct str name,
                struct rdvmsg *ret_answer)
{
    struct rdvmsg m = {.type = type, .name = name};
    const struct signing s = {id, type == RDVMSG_CLAIM ? KEY_CLAIM : KEY_RELEASE, name};
    memcpy(m.key, id->key.b, sizeof m.key);
    return ask_signed(c, &m, sign_request, &s, ret_answer);
}

int client_list(struct client *c, const struct key *key, struct rdvmsg *ret_answer)
{
    struct rdvmsg m = {.type = RDVMSG_LIST};
    memcpy(m.key, key->b, sizeof m.key);
    return ask_signed(c, &m, NULL, NULL, ret_answer);
}
