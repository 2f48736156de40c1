/* getsockname, getpeername and getsockopt: a queue answers as the listening TCP socket would. */
#include <netinet/tcp.h>

#include "launch/preload/shim.h"

static int fail(int err)
{
    errno = err;
    return -1;
}

/* `len` is what the caller had room for, before any real call changed it. */
static int name_write(const struct queue_name *name, struct sockaddr *sa, socklen_t *len)
{
    memcpy(sa, &name->addr.sa, *len < name->addr.len ? *len : name->addr.len);
    *len = name->addr.len;
    return 0;
}

EXPORT int getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
    if (!env_get() || !sa || !len)
        return real()->getsockname(fd, sa, len);
    socklen_t room = *len;
    int r = real()->getsockname(fd, sa, len), saved = errno;
    bool maybe = r == 0 ? room >= sizeof sa->sa_family && sa->sa_family == AF_UNIX
                        : hint_get(fd) & HINT_WATCH;
    struct queue_name name;
    if (!maybe || !queue_find(fd, &name)) {
        errno = saved;
        return r;
    }
    *len = room;
    return name_write(&name, sa, len);
}

EXPORT int getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
    struct queue_name name;
    if (hint_get(fd) && queue_find(fd, &name))
        return fail(ENOTCONN);
    int r = real()->getpeername(fd, sa, len);
    if (r == 0 && env_get() && sa && len && *len >= sizeof sa->sa_family &&
        sa->sa_family == AF_UNIX && queue_find(fd, &name))
        return fail(ENOTCONN);
    return r;
}

static int int_write(int value, void *out, socklen_t *len)
{
    socklen_t n = *len < sizeof value ? *len : (socklen_t)sizeof value;
    memcpy(out, &value, n);
    *len = n;
    return 0;
}

static int queue_getsockopt(int fd, const struct queue_name *name, struct appmsg *which,
                            void *value, socklen_t *len)
{
    if (which->level == SOL_SOCKET && which->option == SO_ACCEPTCONN)
        return int_write(queue_is_listening(fd) && !(hint_get(fd) & HINT_SHUT), value, len);
    CLEANUP_FD int standin = standin_open(name);
    if (standin < 0)
        return fail(-standin);
    if (real()->getsockopt(standin, which->level, which->option, value, len) < 0)
        return -1;
    if (which->level == IPPROTO_TCP && which->option == TCP_INFO && *len > 0 &&
        queue_is_listening(fd))
        *(uint8_t *)value = TCP_LISTEN; /* tcpi_state is the first byte. */
    return 0;
}

/* Could this be the answer of a queue that has no hint yet? Connections are asked for options all
 * the time: they must not pay for a second call. */
static bool is_suspicious(int r, int level, int option, const void *value)
{
    if (r < 0)
        return errno == EOPNOTSUPP || errno == ENOPROTOOPT;
    if (level != SOL_SOCKET)
        return false;
    int v;
    memcpy(&v, value, sizeof v);
    return (option == SO_DOMAIN && v == AF_UNIX) || (option == SO_TYPE && v == SOCK_SEQPACKET) ||
           (option == SO_PROTOCOL && v == 0) || (option == SO_ACCEPTCONN && v == 0);
}

EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *len)
{
    if (!env_get() || !value || !len)
        return real()->getsockopt(fd, level, option, value, len);
    struct queue_name name;
    struct appmsg which = {.level = level, .option = option};
    if (hint_get(fd) && queue_find(fd, &name))
        return queue_getsockopt(fd, &name, &which, value, len);
    socklen_t room = *len;
    int r = real()->getsockopt(fd, level, option, value, len), saved = errno;
    if (room >= sizeof(int) && is_suspicious(r, level, option, value) && queue_find(fd, &name)) {
        *len = room;
        return queue_getsockopt(fd, &name, &which, value, len);
    }
    errno = saved;
    return r;
}
