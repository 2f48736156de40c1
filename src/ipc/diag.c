/* Talks to the kernel over NETLINK_SOCK_DIAG. The netlink socket lives only as long as the call. */
#include "ipc/diag.h"

#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include "base/rd.h"

#define ANSWER_MAX 65536

struct dump {
    diag_fn *fn;
    void *ctx;
    bool finished, interrupted;
};

static int error_read(struct str payload)
{
    int error = -EPROTO;
    if (payload.n >= sizeof error)
        memcpy(&error, payload.p, sizeof error);
    return error;
}

static int message_read(struct dump *d, const struct nlmsghdr *h, struct str payload)
{
    d->interrupted |= (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
    switch (h->nlmsg_type) {
    case SOCK_DIAG_BY_FAMILY:
        return d->fn(d->ctx, payload);
    case NLMSG_DONE:
        d->finished = true;
        return 0;
    case NLMSG_ERROR:
        return error_read(payload);
    default:
        return 0;
    }
}

static int datagram_read(struct dump *d, struct rd r)
{
    int err = 0;
    while (r.left > 0 && !d->finished && err == 0) {
        struct nlmsghdr h;
        struct str head = rd_bytes(&r, sizeof h);
        if (!rd_ok(&r))
            return -EPROTO;
        memcpy(&h, head.p, sizeof h);
        if (h.nlmsg_len < sizeof h)
            return -EPROTO;
        size_t n = h.nlmsg_len - sizeof h;
        struct str payload = rd_bytes(&r, n);
        if (!rd_ok(&r))
            return -EPROTO;
        if (NLMSG_ALIGN(n) != n && r.left > 0)
            (void)rd_bytes(&r, NLMSG_ALIGN(n) - n);
        err = message_read(d, &h, payload);
    }
    return err;
}

static int request_send(int fd, const void *request, size_t n)
{
    struct nlmsghdr head = {.nlmsg_type = SOCK_DIAG_BY_FAMILY,
                            .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                            .nlmsg_len = (uint32_t)(sizeof head + n)};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)(uintptr_t)request, n}};
    return writev(fd, parts, 2) < 0 ? -errno : 0;
}

int diag_dump(const void *request, size_t n, diag_fn *fn, void *ctx)
{
    struct dump d = {.fn = fn, .ctx = ctx};
    uint8_t answer[ANSWER_MAX];
    CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0)
        return -errno;
    /* The kernel answers at once; the limit only guards against a kernel that does not. */
    struct timeval limit = {.tv_sec = 1};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int err = request_send(fd, request, n);
    while (err == 0 && !d.finished) {
        ssize_t got = recv(fd, answer, sizeof answer, 0);
        if (got < 0)
            return -errno;
        err = got == 0 ? -EPROTO : datagram_read(&d, rd_init(answer, (size_t)got));
    }
    return err == 0 && d.interrupted ? -EINTR : err;
}
