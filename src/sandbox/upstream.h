#pragma once
/* The sandbox of berth-upstream. */

#include "base/fd.h"

/* No new privileges, and only the system calls that connecting and passing on take: no file, no
 * program, no listening. -ENOTSUP in sanitizer builds. */
int sandbox_upstream(void) WARN_UNUSED;
