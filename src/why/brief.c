/* For a program whose bind() has just failed: the verdict and what mends it, in two lines. Nothing
 * is tried out and no other program is run, so this is quick enough for the caller of bind(). */
#include <stdio.h>
#include <stdlib.h>

#include "why/why.h"

size_t why_bind_failed(const struct addr *addr, int err, char *buf, size_t size)
{
    if (addr->sa.sa_family != AF_INET && addr->sa.sa_family != AF_INET6)
        return 0;
    struct why_target target = {.kind = WHY_ADDR, .port = addr_port(addr), .addr = *addr};
    struct why_report *r = calloc(1, sizeof *r);
    struct why_answer *a = calloc(1, sizeof *a);
    size_t used = 0;
    if (r && a && size > 0 && why_collect(&target, WHY_BRIEF, r) == 0) {
        r->probes[r->probes_count++] =
            (struct why_probe){.addr = *addr, .plain = err, .reuse = err};
        why_explain(r, a);
        int n = snprintf(buf, size, "%s%s%s%s%s", a->verdict, a->mends_count ? "\n" : "",
                         a->mends_count ? a->mends[0].command : "", a->mends_count ? ": " : "",
                         a->mends_count ? a->mends[0].effect : "");
        used = n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
    }
    if (r)
        why_report_done(r);
    free(r);
    free(a);
    return used;
}
