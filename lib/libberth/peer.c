/* Who dialled. A socket or an address comes in; berth-peer, which holds the session, is asked, and
 * what it says goes out. Nothing is kept. */
#include <stdio.h>
#include <sys/time.h>

#include "internal.h"
#include "ipc/fdmsg.h"
#include "ipc/runtime.h"
#include "wire/streammsg.h"

#define ANSWER_TIMEOUT_S 5
/* The first version of the struct had these members. */
#define PEER_SIZE_MIN (offsetof(struct berth_peer, service) + BERTH_NAME_SIZE)

_Static_assert(BERTH_NAME_SIZE == WIRE_NAME_MAX + 1, "a name and its NUL");

static int peer_connect(void)
{
    struct timeval wait = {.tv_sec = ANSWER_TIMEOUT_S};
    CLEANUP_FD int fd = runtime_connect(RUNTIME_PEER);
    /* Without a berth-peer there is no peer. */
    if (fd < 0)
        return fd == -ECONNREFUSED ? -ENOENT : fd;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) < 0)
        return -errno;
    return fd_take(&fd);
}

/* Takes a word and the blank behind it off *line; false when it does not fit. "-" stands for none.
 */
static bool word_take(struct str *line, char *buf, size_t size)
{
    const char *blank = line->n > 0 ? memchr(line->p, ' ', line->n) : NULL;
    struct str word = {line->p, blank ? (size_t)(blank - line->p) : line->n};
    *line = str_skip(*line, word.n + (blank != NULL));
    if (word.n == 0 || word.n >= size || memchr(word.p, 0, word.n))
        return false;
    if (str_eq(word, STR("-")))
        word.n = 0;
    memcpy(buf, word.p, word.n);
    buf[word.n] = 0;
    return true;
}

/* "KEY NAME SERVICE" */
static int text_read(struct str line, struct berth_peer *peer)
{
    while (line.n > 0 && line.p[line.n - 1] == '\n')
        line.n--;
    bool good = word_take(&line, peer->key, sizeof peer->key) &&
                word_take(&line, peer->name, sizeof peer->name) &&
                word_take(&line, peer->service, sizeof peer->service);
    return good && line.n == 0 ? 0 : -EPROTO;
}

/* One TEXT and OK, or ERROR. */
static int answer_read(int control, struct berth_peer *ret_peer)
{
    uint8_t bytes[APPMSG_MAX];
    struct appmsg m;
    int r = -EPROTO;
    for (;;) {
        size_t count = 0;
        ssize_t n = fdmsg_recv(control, bytes, sizeof bytes, NULL, 0, &count, 0);
        if (n <= 0)
            return n == -EAGAIN ? -ETIMEDOUT : n == 0 ? -ECONNRESET : (int)n;
        if (appmsg_decode(&m, bytes, (size_t)n) < 0)
            return -EPROTO;
        if (m.type == APPMSG_ERROR)
            return m.err > 0 && m.err < 4096 ? -m.err : -EPROTO;
        if (m.type != APPMSG_TEXT)
            return m.type == APPMSG_OK ? r : -EPROTO;
        r = text_read(m.text, ret_peer);
    }
}

/* Each address and a NUL. */
static struct str words(const struct addr *a, const struct addr *local, char buf[2 * ADDR_TEXT_MAX])
{
    size_t n = strlen(addr_format(a, buf)) + 1;
    if (local)
        n += strlen(addr_format(local, buf + n)) + 1;
    return (struct str){buf, n};
}

static int ask(const struct addr *a, const struct addr *local, struct berth_peer *ret_peer)
{
    char text[2 * ADDR_TEXT_MAX];
    uint8_t bytes[512];
    struct appmsg m = {.type = APPMSG_COMMAND, .name = STR("who"), .text = words(a, local, text)};
    CLEANUP_FD int control = peer_connect();
    int n = control < 0 ? control : appmsg_encode(&m, bytes, sizeof bytes);
    int r = n < 0 ? n : fdmsg_send(control, bytes, (size_t)n, NULL, 0, 0);
    if (r == -EAGAIN)
        r = -ETIMEDOUT;
    return r < 0 ? r : answer_read(control, ret_peer);
}

/* local: our own end's address, or NULL where it is not known. */
static int peer_find(const struct addr *a, const struct addr *local, struct berth_peer *peer)
{
    struct berth_peer full = {.size = peer->size};
    int r = addr_is_loopback(a) && a->sa.sa_family != AF_UNIX ? ask(a, local, &full) : -ENOENT;
    if (r < 0)
        return r;
    memcpy(peer, &full, peer->size < sizeof full ? peer->size : sizeof full);
    return 0;
}

int berth_peer_at(const struct sockaddr *address, socklen_t size, struct berth_peer *peer)
{
    struct addr a = addr_from(address, size);
    if (!peer || peer->size < PEER_SIZE_MIN)
        return -EINVAL;
    a = addr_unmap(&a);
    return peer_find(&a, NULL, peer);
}

/* Streams come to that address. Others may connect to it, too, and from wherever they like: only
 * both ends together say which connection it is. */
static bool is_from_peers(int fd, struct addr *ret_local)
{
    struct addr local = {0};
    const struct addr wanted = addr_make(AF_INET, STREAMMSG_IP, 0);
    local.len = sizeof local.un;
    if (getsockname(fd, &local.sa, &local.len) < 0)
        return false;
    local = addr_from(&local.sa, local.len);
    local = addr_unmap(&local);
    *ret_local = local;
    addr_set_port(&local, 0);
    return addr_equal(&local, &wanted);
}

int berth_peer(int fd, struct berth_peer *peer)
{
    struct addr a = {0}, local;
    a.len = sizeof a.un;
    if (!peer || peer->size < PEER_SIZE_MIN)
        return -EINVAL;
    if (getpeername(fd, &a.sa, &a.len) < 0)
        return -errno;
    a = addr_from(&a.sa, a.len);
    a = addr_unmap(&a);
    return is_from_peers(fd, &local) ? peer_find(&a, &local, peer) : -ENOENT;
}
