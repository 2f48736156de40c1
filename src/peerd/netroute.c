/* Asks the kernel for the route to an address of each family that nobody has. Nothing is sent
 * there; the answer comes at once. Owns nothing. */
#include "peerd/netroute.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

/* RFC 5737 and RFC 3849: for documentation. */
static const uint8_t far_v4[4] = {198, 51, 100, 1};
static const uint8_t far_v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};

struct question {
    struct nlmsghdr head;
    struct rtmsg route;
    struct rtattr attr;
    uint8_t to[16];
};

static int ask(int fd, int family)
{
    const void *to = family == AF_INET ? far_v4 : far_v6;
    unsigned short n = family == AF_INET ? sizeof far_v4 : sizeof far_v6;
    struct question q = {
        .head = {.nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST},
        .route = {.rtm_family = (unsigned char)family, .rtm_dst_len = (unsigned char)(n * 8)},
        .attr = {.rta_type = RTA_DST, .rta_len = (unsigned short)RTA_LENGTH(n)}};
    q.head.nlmsg_len = (uint32_t)(offsetof(struct question, to) + n);
    memcpy(q.to, to, n);
    return send(fd, &q, q.head.nlmsg_len, MSG_DONTWAIT) < 0 ? -errno : 0;
}

static uint64_t hash_add(uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    /* FNV-1a: differences are wanted, not secrecy. */
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 1099511628211ull;
    return h;
}

/* What of a route matters: when it was made and when it ends does not. */
static uint64_t route_hash(const struct nlmsghdr *h, int *ret_link)
{
    uint64_t hash = 14695981039346656037ull;
    const struct rtattr *a = RTM_RTA((const struct rtmsg *)NLMSG_DATA(h));
    for (size_t left = RTM_PAYLOAD(h); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type == RTA_OIF && RTA_PAYLOAD(a) == sizeof *ret_link)
            memcpy(ret_link, RTA_DATA(a), sizeof *ret_link);
        if (a->rta_type == RTA_OIF || a->rta_type == RTA_GATEWAY || a->rta_type == RTA_PREFSRC ||
            a->rta_type == RTA_VIA) {
            hash = hash_add(hash, &a->rta_type, sizeof a->rta_type);
            hash = hash_add(hash, RTA_DATA(a), RTA_PAYLOAD(a));
        }
    }
    return hash;
}

static uint64_t family_hash(int fd, int family, int *ret_link)
{
    _Alignas(struct nlmsghdr) char buf[4096];
    if (ask(fd, family) < 0)
        return 0;
    ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)buf;
    if (n <= 0 || !NLMSG_OK(h, (size_t)n) || h->nlmsg_type != RTM_NEWROUTE)
        return 0;
    return route_hash(h, ret_link);
}

struct netroute netroute_now(void)
{
    struct netroute r = {.hash = 0};
    CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return r;
    uint64_t v4 = family_hash(fd, AF_INET, &r.links[0]);
    r.hash = v4 * 31 + family_hash(fd, AF_INET6, &r.links[1]);
    return r;
}
