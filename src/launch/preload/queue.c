/* What a descriptor is, asked from the descriptor itself; and putting another file in its place. */
#include <fcntl.h>
#include <poll.h>

#include "launch/preload/shim.h"

static bool watch_find(int fd, struct note *ret_note)
{
    struct note n = {.kind = NOTE_WATCH, .fd = fd};
    size_t cursor = 0;
    if (!note_next(&n, &cursor))
        return false;
    *ret_note = n;
    return true;
}

static bool name_read(int fd, struct queue_name *ret_name)
{
    struct sockaddr_un un;
    socklen_t len = sizeof un;
    return real()->getsockname(fd, (struct sockaddr *)&un, &len) == 0 &&
           queue_name_parse(&un, len, ret_name) == 0;
}

bool queue_find(int fd, struct queue_name *ret_name)
{
    int saved = errno;
    uint8_t hint = hint_get(fd);
    struct note watch;
    bool found = name_read(fd, ret_name);
    if (found && !(hint & HINT_QUEUE)) {
        bool v6 = ret_name->addr.sa.sa_family == AF_INET6;
        hint_set(fd, HINT_QUEUE | (v6 ? HINT_V6 : 0));
    } else if (!found && errno == ENOTSOCK && hint & HINT_WATCH && watch_find(fd, &watch)) {
        *ret_name = (struct queue_name){.addr = watch.addr, .v6only = watch.v6only};
        found = true;
    } else if (!found) {
        hint_forget(fd);
    }
    errno = saved;
    return found;
}

bool queue_is_listening(int fd)
{
    struct note watch;
    if (hint_get(fd) & HINT_WATCH && watch_find(fd, &watch))
        return watch.listening;
    int priority = 0;
    socklen_t len = sizeof priority;
    (void)real()->getsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, &len);
    return priority == QUEUE_LISTENING_PRIORITY;
}

bool queue_is_dead(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLRDHUP);
}

int queue_swap(int fd, int newfd, uint8_t hint)
{
    CLEANUP_FD int consumed = newfd;
    int status = fcntl(fd, F_GETFL), flags = fcntl(fd, F_GETFD);
    if (status < 0 || flags < 0)
        return -errno;
    /* The queue is one open file for all who hold it; the last to ask decides, as the workers of a
     * program all ask for the same. */
    int other = fcntl(consumed, F_GETFL);
    if ((other & O_NONBLOCK) != (status & O_NONBLOCK))
        (void)fcntl(consumed, F_SETFL, (other & ~O_NONBLOCK) | (status & O_NONBLOCK));
    if (real()->dup3(consumed, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0)
        return -errno;
    hint_set(fd, hint);
    return 0;
}

void queue_send(int fd, const struct appmsg *m)
{
    int saved = errno;
    uint8_t bytes[128];
    int n = appmsg_encode(m, bytes, sizeof bytes);
    if (n > 0)
        (void)send(fd, bytes, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    errno = saved;
}

void queue_closing(int fd)
{
    /* A child of vfork() closes its own descriptors, but would forget its parent's. */
    if (memory_is_borrowed())
        return;
    struct queue_name name;
    if (queue_find(fd, &name) && !(hint_get(fd) & HINT_WATCH))
        queue_send(fd, &(struct appmsg){.type = APPMSG_CLOSED});
    hint_forget(fd);
}
