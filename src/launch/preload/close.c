/* close, dup2, dup3, close_range, closefrom and syscall(SYS_close): before the program lets go of a
 * queue, berthd is told to look who still holds one. */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "launch/preload/shim.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

EXPORT int close(int fd)
{
    if (hint_get(fd))
        queue_closing(fd);
    return real()->close(fd);
}

static void closing_range(unsigned first, unsigned last)
{
    int fd = first > INT32_MAX ? -1 : hint_next((int)first);
    for (; fd >= 0 && (unsigned)fd <= last; fd = hint_next(fd + 1))
        queue_closing(fd);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    if (!real()->close_range) {
        errno = ENOSYS;
        return -1;
    }
    if (!(flags & (int)CLOSE_RANGE_CLOEXEC) && !memory_is_borrowed())
        closing_range(first, last);
    return real()->close_range(first, last, flags);
}

EXPORT void closefrom(int first)
{
    if (!memory_is_borrowed())
        closing_range(first < 0 ? 0 : (unsigned)first, INT32_MAX);
    real()->closefrom(first);
}

static bool will_replace(int oldfd, int newfd)
{
    return oldfd != newfd && hint_get(newfd) && fcntl(oldfd, F_GETFD) >= 0;
}

/* The copy is what the original is: a file that waits for berthd cannot be told from the outside.
 */
static int duplicated(int oldfd, int newfd)
{
    struct note watch = {.kind = NOTE_WATCH, .fd = oldfd};
    size_t cursor = 0;
    if (newfd < 0 || oldfd == newfd || !hint_get(oldfd) || memory_is_borrowed())
        return newfd;
    hint_set(newfd, hint_get(oldfd));
    if (hint_get(oldfd) & HINT_WATCH && note_next(&watch, &cursor)) {
        watch.fd = newfd;
        note_put(&watch);
    }
    return newfd;
}

EXPORT int dup2(int oldfd, int newfd)
{
    if (will_replace(oldfd, newfd))
        queue_closing(newfd);
    return duplicated(oldfd, real()->dup2(oldfd, newfd));
}

EXPORT int dup3(int oldfd, int newfd, int flags)
{
    if (will_replace(oldfd, newfd))
        queue_closing(newfd);
    return duplicated(oldfd, real()->dup3(oldfd, newfd, flags));
}

/* libuv closes descriptors this way. */
EXPORT long syscall(long number, ...)
{
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++) /* As libc itself: there are always six to be read. */
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_close && hint_get((int)a[0]))
        queue_closing((int)a[0]);
    return real()->syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
