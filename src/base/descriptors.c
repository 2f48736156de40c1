/* The soft limit stands at 1024 for programs that use select(), which none of ours does. */
#include "base/descriptors.h"

#include <stdint.h>
#include <sys/resource.h>

/* Linux' own when nobody has chosen one. */
#define USUAL 1024

size_t descriptors_raise(void)
{
    struct rlimit r = {USUAL, USUAL};
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
    return r.rlim_cur < SIZE_MAX ? (size_t)r.rlim_cur : SIZE_MAX;
}
