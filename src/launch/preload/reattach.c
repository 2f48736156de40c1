/* berthd and dispatch are gone and the queue has ended. The program keeps its descriptor: it gets
 * the queue of a new berthd or, until there is one, a file that becomes readable when berthd's
 * socket appears. The program's event loop then calls accept(), and we try again. Each process does
 * this for its own descriptors; berthd gives all of them the same queue. */
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>

#include "launch/preload/shim.h"

/* For the moment between bind and listen of a berthd that starts: a file that is not yet a server.
 */
#define CONNECT_TRIES 50

/* Watches the folder that is the first n bytes of the path. */
static bool folder_watch(int inotify, const char *path, size_t n)
{
    char folder[sizeof env_get()->control.sun_path] = ".";
    if (n > 0)
        memcpy(folder, path, n);
    folder[n > 0 ? n : 1] = 0;
    return inotify_add_watch(inotify, folder, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) >= 0;
}

static size_t parent_size(const char *path, size_t n)
{
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n;
}

/* A file that is readable when berthd's socket may be there: a watch on its folder. While that does
 * not exist, on the one above and on both if it was made just now. */
static int waiter_open(const char *socket_path)
{
    size_t n = parent_size(socket_path, strlen(socket_path));
    CLEANUP_FD int inotify = inotify_init1(IN_CLOEXEC);
    if (inotify >= 0) {
        if (folder_watch(inotify, socket_path, n))
            return fd_take(&inotify);
        if (folder_watch(inotify, socket_path, parent_size(socket_path, n))) {
            (void)folder_watch(inotify, socket_path, n);
            return fd_take(&inotify);
        }
    }
    /* No inotify left for this user, or nothing that it may look at: look once a second. */
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec second = {.it_interval.tv_sec = 1, .it_value.tv_sec = 1};
    if (timer < 0)
        return -errno;
    (void)timerfd_settime(timer, 0, &second, NULL);
    return timer;
}

/* A registration belongs to the file and its number: it must go before the file does, or nobody can
 * remove it. One that is not there any more was not the program's last word. */
static void epoll_leave(int fd)
{
    struct note n = {.kind = NOTE_EPOLL, .fd = fd};
    for (size_t cursor = 0; note_next(&n, &cursor);)
        if (real()->epoll_ctl(n.a, EPOLL_CTL_DEL, fd, NULL) < 0)
            note_drop(&n);
}

static void epoll_rejoin(int fd)
{
    struct note n = {.kind = NOTE_EPOLL, .fd = fd};
    for (size_t cursor = 0; note_next(&n, &cursor);)
        (void)real()->epoll_ctl(n.a, EPOLL_CTL_ADD, fd, &n.event);
}

static int replace(int fd, int newfd, uint8_t hint)
{
    epoll_leave(fd);
    int err = queue_swap(fd, newfd, hint);
    epoll_rejoin(fd);
    return err;
}

static enum claim_result claim_again(struct claim *c, bool woken)
{
    enum claim_result result = claim_make(c);
    for (int i = 0;
         woken && i < CONNECT_TRIES && result == CLAIM_UNREACHABLE && c->err == ECONNREFUSED; i++) {
        (void)poll(NULL, 0, 1);
        result = claim_make(c);
    }
    return result;
}

int reattach(int fd, bool listening)
{
    struct queue_name name;
    if (!queue_find(fd, &name))
        return -EBADF;
    bool woken = hint_get(fd) & HINT_WATCH;
    if (!woken && !queue_is_dead(fd))
        return 0; /* Another thread was faster. */
    uint8_t hint = HINT_QUEUE | (hint_get(fd) & HINT_V6);
    struct claim c = {
        .addr = name.addr, .v6only = name.v6only, .again = true, .listening = listening};
    struct note watch = {.kind = NOTE_WATCH, .fd = fd, .addr = name.addr};
    /* The watch comes first: berthd may start between the two. */
    CLEANUP_FD int waiter = waiter_open(env_get()->control.sun_path);
    if (claim_again(&c, woken) == CLAIM_DONE) {
        int err = replace(fd, fd_take(&c.queue), hint);
        note_drop(&watch);
        return err;
    }
    if (waiter < 0)
        return waiter;
    watch.v6only = name.v6only;
    watch.listening = listening;
    note_put(&watch);
    return replace(fd, fd_take(&waiter), hint | HINT_WATCH);
}

int reattach_wait(int fd)
{
    /* Nothing is read: each try brings a new file, and another thread may have been faster. */
    int status = fcntl(fd, F_GETFL);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, status >= 0 && status & O_NONBLOCK ? 0 : -1);
    if (n <= 0)
        return n < 0 ? -errno : -EAGAIN;
    return reattach(fd, queue_is_listening(fd));
}

static void epoll_note(int epfd, int op, int fd, const struct epoll_event *event)
{
    struct queue_name name;
    struct note n = {.kind = NOTE_EPOLL, .fd = fd, .a = epfd};
    if (op == EPOLL_CTL_DEL || !event || !queue_find(fd, &name)) {
        note_drop(&n);
        return;
    }
    n.event = *event;
    note_put(&n);
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    int r = real()->epoll_ctl(epfd, op, fd, event);
    if (r == 0 && hint_get(fd) && !memory_is_borrowed())
        epoll_note(epfd, op, fd, event);
    return r;
}
