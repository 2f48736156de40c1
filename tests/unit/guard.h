#pragma once
/* Bytes that end right before a page that must not be touched: whoever reads one too many dies. */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GUARD_PAGE 4096

/* At most one page; guard_free() gives it back. */
static inline const void *guard_copy(const void *bytes, size_t n)
{
    char *area =
        mmap(NULL, 2 * GUARD_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED || n > GUARD_PAGE || mprotect(area + GUARD_PAGE, GUARD_PAGE, PROT_NONE))
        abort();
    return n ? memcpy(area + GUARD_PAGE - n, bytes, n) : area + GUARD_PAGE;
}

static inline void guard_free(const void *bytes, size_t n)
{
    (void)munmap((char *)bytes + n - GUARD_PAGE, 2 * GUARD_PAGE);
}
