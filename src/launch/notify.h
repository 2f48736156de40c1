#pragma once
/* The receiving side of sd_notify(3): what programs say of themselves in datagrams to a socket. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fd.h"

#define NOTIFY_STATUS_MAX 256

struct notify {
    pid_t pid; /* who sent it, as the kernel says */
    uid_t uid;
    bool ready, stopping, reloading;
    bool watchdog;                  /* it is alive */
    bool watchdog_trigger;          /* it says itself that it is not well */
    pid_t main_pid;                 /* 0: not said */
    uint64_t watchdog_us;           /* a new period; 0: not said */
    uint64_t extend_us;             /* so much more time for what it is doing; 0: not said */
    bool has_status;                /* STATUS= came, perhaps an empty one */
    char status[NOTIFY_STATUS_MAX]; /* printable UTF-8 */
};

/* The text of one datagram, without who sent it. Unknown and malformed lines are passed over, as
 * systemd does. */
void notify_parse(const void *text, size_t n, struct notify *ret_notify);

/* A socket at the path that everybody may write to; what was there goes. */
int notify_open(const char *path) WARN_UNUSED;
/* One datagram: 0, -EAGAIN when there is none, or -EBADMSG for one that is to be passed over: it
 * has no sender or was too long. Descriptors in it are closed, which also answers a barrier. */
int notify_read(int fd, struct notify *ret_notify) WARN_UNUSED;
