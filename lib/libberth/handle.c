/* The handle itself: made, named, asked for its descriptor and its reason. It owns every descriptor
 * in it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "internal.h"

struct berth *berth_new(void)
{
    struct berth *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->queue_fd = b->inotify_fd = b->timer_fd = -EBADF;
    b->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (b->epoll_fd < 0 || pthread_mutex_init(&b->lock, NULL) != 0) {
        (void)fd_close(b->epoll_fd);
        free(b);
        return NULL;
    }
    return b;
}

static bool is_printable(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

int berth_set_name(struct berth *b, const char *name)
{
    if (b->attached)
        return reason_set(b, -EISCONN, "the handle is attached: name it before");
    if (!name || !*name || strlen(name) > NAME_MAX_BYTES || !is_printable(name))
        return reason_set(b, -EINVAL, "a name has 1 to %d printable characters", NAME_MAX_BYTES);
    memcpy(b->wanted_name, name, strlen(name) + 1);
    return 0;
}

int berth_fd(const struct berth *b)
{
    return b->epoll_fd;
}

const char *berth_reason(const struct berth *b)
{
    return b->reason;
}

int reason_set(struct berth *b, int err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(b->reason, sizeof b->reason, format, args);
    va_end(args);
    return err;
}
