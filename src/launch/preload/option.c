/* Options of a listening socket. Connections inherit most of them, so those go to berthd, which
 * sets them on each connection. Each is first tried on a stand-in, a fresh TCP socket with the
 * options that the program gave so far: the program gets the kernel's own answer, and never touches
 * the queue, which others share. */
#include <netinet/tcp.h>
#include <sys/time.h>

#include "launch/preload/shim.h"

enum {
    SENT = 1,    /* connections inherit it */
    LOCAL = 2,   /* concerns accept() itself: set on the queue */
    DOUBLED = 4, /* the kernel shows twice what was set */
};

/* Options whose value can be kept and set again. All others hold pointers or descriptors (filters),
 * or mean nothing to a connection: they are answered by the stand-in, and that is all. */
static const struct rule {
    int level, option;
    unsigned what;
} rules[] = {
    {SOL_SOCKET, SO_REUSEADDR, 0},
    {SOL_SOCKET, SO_REUSEPORT, 0},
    {SOL_SOCKET, SO_KEEPALIVE, SENT},
    {SOL_SOCKET, SO_LINGER, SENT},
    {SOL_SOCKET, SO_OOBINLINE, SENT},
    {SOL_SOCKET, SO_RCVBUF, SENT | DOUBLED},
    {SOL_SOCKET, SO_SNDBUF, SENT | DOUBLED},
    {SOL_SOCKET, SO_RCVTIMEO, SENT | LOCAL},
    {SOL_SOCKET, SO_SNDTIMEO, SENT | LOCAL},
    {SOL_SOCKET, SO_RCVLOWAT, SENT},
    {SOL_SOCKET, SO_PRIORITY, SENT},
    {SOL_SOCKET, SO_MARK, SENT},
    {SOL_SOCKET, SO_DONTROUTE, SENT},
    {SOL_SOCKET, SO_ZEROCOPY, SENT},
    {SOL_SOCKET, SO_BUSY_POLL, SENT},
    {SOL_SOCKET, SO_MAX_PACING_RATE, SENT},
    {IPPROTO_TCP, TCP_NODELAY, SENT},
    {IPPROTO_TCP, TCP_CORK, SENT},
    {IPPROTO_TCP, TCP_MAXSEG, SENT},
    {IPPROTO_TCP, TCP_KEEPIDLE, SENT},
    {IPPROTO_TCP, TCP_KEEPINTVL, SENT},
    {IPPROTO_TCP, TCP_KEEPCNT, SENT},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, SENT},
    {IPPROTO_TCP, TCP_LINGER2, SENT},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP, SENT},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, SENT},
    {IPPROTO_TCP, TCP_CONGESTION, SENT},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, 0},
    {IPPROTO_TCP, TCP_FASTOPEN, 0},
    {IPPROTO_IP, IP_TOS, SENT},
    {IPPROTO_IP, IP_TTL, SENT},
    {IPPROTO_IP, IP_MTU_DISCOVER, SENT},
    {IPPROTO_IP, IP_FREEBIND, 0},
    {IPPROTO_IP, IP_TRANSPARENT, 0},
    {IPPROTO_IPV6, IPV6_TCLASS, SENT},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, SENT},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, SENT},
};
#define RULE_COUNT (sizeof rules / sizeof *rules)

static const struct rule *rule_find(int level, int option)
{
    for (size_t i = 0; i < RULE_COUNT; i++)
        if (rules[i].level == level && rules[i].option == option)
            return &rules[i];
    return NULL;
}

static bool option_read(int fd, const struct rule *rule, struct note *ret_note)
{
    struct note n = {.kind = NOTE_OPTION, .fd = -1, .a = rule->level, .b = rule->option};
    socklen_t len = sizeof n.value;
    if (real()->getsockopt(fd, rule->level, rule->option, n.value, &len) < 0)
        return false;
    n.size = (uint8_t)len;
    *ret_note = n;
    return true;
}

static void value_halve(struct note *n)
{
    int value;
    memcpy(&value, n->value, sizeof value);
    value /= 2;
    memcpy(n->value, &value, sizeof value);
}

static void options_forget(const struct addr *addr)
{
    struct note n = {.kind = NOTE_OPTION, .fd = -1, .addr = *addr};
    for (size_t cursor = 0; note_next(&n, &cursor);)
        note_drop(&n);
}

void options_collect(int fd, const struct addr *addr)
{
    options_forget(addr);
    CLEANUP_FD int fresh = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fresh < 0)
        return;
    for (size_t i = 0; i < RULE_COUNT; i++) {
        struct note now, before;
        if (!option_read(fd, &rules[i], &now) || !option_read(fresh, &rules[i], &before) ||
            (now.size == before.size && memcmp(now.value, before.value, now.size) == 0))
            continue;
        if (rules[i].what & DOUBLED)
            value_halve(&now);
        now.addr = *addr;
        note_put(&now);
    }
}

static void option_apply(int queue, const struct note *n)
{
    const struct rule *rule = rule_find(n->a, n->b);
    if (rule->what & LOCAL)
        (void)real()->setsockopt(queue, n->a, n->b, n->value, n->size);
    if (rule->what & SENT)
        queue_send(queue, &(struct appmsg){.type = APPMSG_OPTION,
                                           .level = n->a,
                                           .option = n->b,
                                           .value = {(const char *)n->value, n->size}});
}

void options_apply(int queue, const struct addr *addr)
{
    struct note n = {.kind = NOTE_OPTION, .fd = -1, .addr = *addr};
    for (size_t cursor = 0; note_next(&n, &cursor);)
        option_apply(queue, &n);
}

bool options_has(const struct addr *addr, int level, int option)
{
    struct note n = {.kind = NOTE_OPTION, .fd = -1, .addr = *addr};
    for (size_t cursor = 0; note_next(&n, &cursor);)
        if (n.a == level && n.b == option)
            return n.value[0] != 0;
    return false;
}

int standin_open(const struct queue_name *name)
{
    int family = name->addr.sa.sa_family, v6only = name->v6only;
    CLEANUP_FD int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (family == AF_INET6)
        (void)real()->setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
    struct note n = {.kind = NOTE_OPTION, .fd = -1, .addr = name->addr};
    for (size_t cursor = 0; note_next(&n, &cursor);)
        (void)real()->setsockopt(fd, n.a, n.b, n.value, n.size);
    return fd_take(&fd);
}

static void option_keep(int queue, const struct queue_name *name, struct note *n)
{
    if (!rule_find(n->a, n->b))
        return;
    n->kind = NOTE_OPTION;
    n->fd = -1;
    n->addr = name->addr;
    note_put(n);
    if (hint_get(queue) & HINT_WATCH)
        return;
    option_apply(queue, n);
    /* The next connection has it: once berthd answers this, it has read what was sent before. */
    struct control_reply reply;
    if (queue_is_listening(queue))
        (void)!control_ask_once(&(struct appmsg){.type = APPMSG_LISTEN, .queue = name->queue},
                                &reply);
}

static int queue_setsockopt(int fd, const struct queue_name *name, struct note *n)
{
    if (n->a == IPPROTO_IPV6 && n->b == IPV6_V6ONLY) {
        errno = EINVAL; /* As for any bound socket. */
        return -1;
    }
    int saved = errno;
    CLEANUP_FD int standin = standin_open(name);
    if (standin < 0) {
        errno = -standin;
        return -1;
    }
    if (real()->setsockopt(standin, n->a, n->b, n->value, n->size) < 0)
        return -1;
    option_keep(fd, name, n);
    errno = saved;
    return 0;
}

/* An option that would reach a queue without complaint, and should not. */
static bool is_suspicious(int level, int option)
{
    return level == SOL_SOCKET && option == SO_PRIORITY;
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
    struct queue_name name;
    if (!env_get() || !((hint_get(fd) || is_suspicious(level, option)) && queue_find(fd, &name))) {
        int r = real()->setsockopt(fd, level, option, value, len);
        if (r == 0 || !env_get() || (errno != EOPNOTSUPP && errno != ENOPROTOOPT) ||
            !queue_find(fd, &name))
            return r;
    }
    struct note n = {.a = level, .b = option};
    if (!value || len > sizeof n.value)
        return real()->setsockopt(fd, level, option, value, len);
    memcpy(n.value, value, len);
    n.size = (uint8_t)len;
    return queue_setsockopt(fd, &name, &n);
}
