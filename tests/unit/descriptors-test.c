#include "base/descriptors.h"
#include "test.h"

#include <sys/resource.h>

TEST("as many descriptors are allowed as the hard limit allows, and that many are said")
{
    struct rlimit r;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, 300}), 0);
    CHECK_INT(descriptors_raise(), 300);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &r), 0);
    CHECK_INT(r.rlim_cur, 300);
    CHECK_INT(r.rlim_max, 300);
    CHECK_INT(descriptors_raise(), 300);
}
