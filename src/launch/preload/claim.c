/* bind, listen, shutdown, connect: a program's claim to an address goes to berthd, and the queue
 * that comes back takes the place of the program's socket. When berthd cannot be reached the
 * program gets what it would have had without us. */
#include <stdatomic.h>

#include "launch/preload/shim.h"

static int fail(int err)
{
    errno = err;
    return -1;
}

static int option_int(int fd, int level, int option)
{
    int value = 0;
    socklen_t len = sizeof value;
    return real()->getsockopt(fd, level, option, &value, &len) < 0 ? -1 : value;
}

/* Programs pass the size of a sockaddr_storage, too. */
static struct addr inet_addr_from(const struct sockaddr *sa, socklen_t len)
{
    socklen_t max =
        sa->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    return addr_from(sa, len < max ? len : max);
}

static bool is_unbound(int fd)
{
    struct addr local = {0};
    local.len = sizeof local.v6;
    return real()->getsockname(fd, &local.sa, &local.len) == 0 && addr_port(&local) == 0;
}

static bool is_on_device(int fd)
{
    char device[64] = "";
    socklen_t len = sizeof device;
    return real()->getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len) == 0 && device[0];
}

/* Everything that the kernel would refuse, or that is no claim of a plain TCP port, stays native.
 */
static bool is_claim(const struct env *env, int fd, const struct addr *addr)
{
    if (!env_shares_port(env, addr_port(addr)))
        return false;
    int protocol = option_int(fd, SOL_SOCKET, SO_PROTOCOL);
    return option_int(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM &&
           (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP) &&
           option_int(fd, SOL_SOCKET, SO_DOMAIN) == addr->sa.sa_family && is_unbound(fd) &&
           !is_on_device(fd);
}

static void say_why(const struct addr *addr, int err)
{
    struct control_reply reply;
    struct appmsg why = {.type = APPMSG_WHY, .addr = *addr, .err = err};
    if (control_ask_once(&why, &reply) == 0)
        say_text(reply.msg.text);
}

static int bind_native(int fd, const struct sockaddr *sa, socklen_t len)
{
    int r = real()->bind(fd, sa, len);
    int err = errno;
    if (r < 0 && (err == EADDRINUSE || err == EACCES)) {
        struct addr addr = inet_addr_from(sa, len);
        if (addr.len > 0 && option_int(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM)
            say_why(&addr, err);
        errno = err;
    }
    return r;
}

static int ask_bind(int control, struct claim *c, uint32_t *ret_queue)
{
    struct appmsg m = {.type = APPMSG_BIND, .addr = c->addr, .v6only = c->v6only};
    if (c->again || options_has(&c->addr, SOL_SOCKET, SO_REUSEPORT))
        m.flags |= APPMSG_REUSEPORT;
    struct control_reply reply;
    int err = control_ask(control, &m, &reply);
    if (err < 0)
        return err;
    if (reply.msg.type == APPMSG_BOUND && reply.fd >= 0) {
        c->queue = reply.fd;
        *ret_queue = reply.msg.queue;
        if (!c->again)
            say_text(reply.msg.text);
        return 0;
    }
    (void)fd_close(reply.fd);
    if (reply.msg.type != APPMSG_ERROR || reply.msg.err <= 0)
        return -EPROTO;
    if (reply.msg.err != ENOENT)
        say_text(reply.msg.text);
    return reply.msg.err;
}

/* 0, a positive errno that berthd gave, or a negative one when it could not be asked. */
static int ask_listen(int control, uint32_t queue)
{
    struct control_reply reply;
    int err = control_ask(control, &(struct appmsg){.type = APPMSG_LISTEN, .queue = queue}, &reply);
    if (err < 0)
        return err;
    (void)fd_close(reply.fd);
    if (reply.msg.type != APPMSG_ERROR || reply.msg.err <= 0)
        return 0;
    say_text(reply.msg.text);
    return reply.msg.err;
}

enum claim_result claim_make(struct claim *c)
{
    CLEANUP_FD int control = control_open();
    uint32_t queue = 0;
    c->queue = -EBADF;
    int err = control < 0 ? control : ask_bind(control, c, &queue);
    if (err == 0)
        options_apply(c->queue, &c->addr); /* Before the first connection comes. */
    if (err == 0 && c->listening)
        err = ask_listen(control, queue);
    if (err == 0)
        return CLAIM_DONE;
    c->queue = fd_close(c->queue);
    c->err = err < 0 ? -err : err;
    if (err < 0)
        return CLAIM_UNREACHABLE;
    return err == ENOENT ? CLAIM_NOT_SHARED : CLAIM_REFUSED;
}

static int bind_claim(int fd, struct claim *c)
{
    uint8_t hint = HINT_QUEUE | (c->addr.sa.sa_family == AF_INET6 ? HINT_V6 : 0);
    hint_forget(fd);
    int err = queue_swap(fd, fd_take(&c->queue), hint);
    return err < 0 ? fail(-err) : 0;
}

EXPORT int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
    const struct env *env = env_get();
    if (!env || !sa || len < sizeof sa->sa_family ||
        (sa->sa_family != AF_INET && sa->sa_family != AF_INET6))
        return real()->bind(fd, sa, len);
    struct queue_name bound;
    if (hint_get(fd) && queue_find(fd, &bound))
        return fail(EINVAL);
    int saved = errno;
    struct claim c = {.addr = inet_addr_from(sa, len)};
    if (!is_claim(env, fd, &c.addr)) {
        errno = saved;
        return bind_native(fd, sa, len);
    }
    c.v6only = option_int(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 1;
    options_collect(fd, &c.addr);
    enum claim_result result = claim_make(&c);
    errno = saved;
    if (result == CLAIM_DONE)
        return bind_claim(fd, &c);
    if (result == CLAIM_REFUSED)
        return fail(c.err);
    static atomic_bool said;
    if (result == CLAIM_UNREACHABLE && !atomic_exchange(&said, true))
        say("berthd does not answer on %s: this program's ports are its own, not shared",
            env->control.sun_path);
    return bind_native(fd, sa, len);
}

static int queue_listen(int fd, const struct queue_name *name)
{
    int saved = errno, err;
    if (hint_get(fd) & HINT_WATCH || queue_is_dead(fd)) {
        /* The queue's number is nothing to a new berthd. */
        err = reattach(fd, true);
        errno = saved;
        return err < 0 ? fail(-err) : 0;
    }
    hint_set(fd, hint_get(fd) & (uint8_t)~HINT_SHUT);
    CLEANUP_FD int control = control_open();
    err = control < 0 ? control : ask_listen(control, name->queue);
    errno = saved;
    if (err < 0) /* A chroot or another user: the queue itself reaches berthd. */
        queue_send(fd, &(struct appmsg){.type = APPMSG_LISTEN, .queue = name->queue});
    return err > 0 ? fail(err) : 0;
}

EXPORT int listen(int fd, int backlog)
{
    struct queue_name name;
    if (env_get() && hint_get(fd) && queue_find(fd, &name))
        return queue_listen(fd, &name);
    int r = real()->listen(fd, backlog);
    if (r < 0 && errno == EINVAL && env_get() && queue_find(fd, &name))
        return queue_listen(fd, &name);
    return r;
}

static void queue_unlisten(const struct queue_name *name)
{
    struct control_reply reply;
    struct appmsg m = {.type = APPMSG_UNLISTEN, .queue = name->queue};
    int saved = errno;
    (void)!control_ask_once(&m, &reply);
    errno = saved;
}

EXPORT int shutdown(int fd, int how)
{
    struct queue_name name;
    /* A wrong answer here would shut a socket that others use: ask, hint or none. */
    if (!env_get() || !queue_find(fd, &name))
        return real()->shutdown(fd, how);
    if (how < SHUT_RD || how > SHUT_RDWR)
        return fail(EINVAL);
    if (!queue_is_listening(fd) || hint_get(fd) & HINT_SHUT)
        return fail(ENOTCONN);
    if (how == SHUT_WR)
        return 0;
    /* The socket is shared with berthd and other processes: it is not shut, only unlisted. */
    hint_set(fd, hint_get(fd) | HINT_SHUT);
    queue_unlisten(&name);
    return 0;
}

/* A client that chose its source port: give it the socket that it would have had. */
static int queue_unclaim(int fd, const struct queue_name *name)
{
    CLEANUP_FD int plain = standin_open(name);
    if (plain < 0)
        return plain;
    queue_unlisten(name);
    queue_closing(fd);
    if (real()->bind(plain, &name->addr.sa, name->addr.len) < 0)
        return -errno;
    return queue_swap(fd, fd_take(&plain), 0);
}

EXPORT int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    struct queue_name name;
    if (env_get() && hint_get(fd) && queue_find(fd, &name)) {
        if (queue_is_listening(fd))
            return fail(EISCONN);
        int err = queue_unclaim(fd, &name);
        if (err < 0)
            return fail(-err);
    }
    return real()->connect(fd, sa, len);
}
