/* Asks the kernel what it would answer: binds and listens on a scratch socket, which is closed at
 * once. The answers are facts for why_explain(), which says where they come from. */
#include "why/parts.h"

/* The address family is missing (IPv6 off) is told apart from a refusal by its errno. */
static int try_bind(const struct addr *addr, bool v6only, bool reuse)
{
    CLEANUP_FD int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int on = 1, only = v6only;
    if (reuse && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return errno;
    if (addr->sa.sa_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) < 0)
        return errno;
    if (bind(fd, &addr->sa, addr->len) < 0)
        return errno;
    /* With SO_REUSEADDR on both sides the bind is granted and only listen finds the conflict. */
    return listen(fd, 1) < 0 ? errno : 0;
}

static void probe_add(struct why_report *r, struct addr addr, bool v6only)
{
    for (size_t i = 0; i < r->probes_count; i++)
        if (addr_equal(&r->probes[i].addr, &addr) && r->probes[i].v6only == v6only)
            return;
    if (r->probes_count == WHY_PROBES_MAX)
        return;
    r->probes[r->probes_count++] = (struct why_probe){
        .addr = addr,
        .v6only = v6only,
        .plain = try_bind(&addr, v6only, false),
        .reuse = try_bind(&addr, v6only, true),
    };
}

void probe_collect(struct why_report *r)
{
    static const uint8_t loop4[4] = {127, 0, 0, 1}, any[16], loop6[16] = {[15] = 1};
    uint16_t port = r->target.port;
    if (r->target.kind == WHY_ADDR)
        probe_add(r, r->target.addr, false);
    probe_add(r, addr_make(AF_INET, loop4, port), false);
    probe_add(r, addr_make(AF_INET, any, port), false);
    probe_add(r, addr_make(AF_INET6, loop6, port), false);
    probe_add(r, addr_make(AF_INET6, any, port), false);
}
