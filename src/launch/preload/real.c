/* Finds the functions of real.h behind our own, once. Constructors of other libraries may call
 * hooks before ours has run, so the first caller does the work. dlsym() of a function that exists
 * takes no heap. */
#include "launch/preload/real.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define SYMBOL(name)                                                                               \
    {                                                                                              \
#name, offsetof(struct real, name)                                                         \
    }

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    SYMBOL(bind),         SYMBOL(listen),      SYMBOL(accept4),     SYMBOL(connect),
    SYMBOL(shutdown),     SYMBOL(getsockname), SYMBOL(getpeername), SYMBOL(getsockopt),
    SYMBOL(setsockopt),   SYMBOL(epoll_ctl),   SYMBOL(close),       SYMBOL(dup2),
    SYMBOL(dup3),         SYMBOL(close_range), SYMBOL(closefrom),   SYMBOL(syscall),
    SYMBOL(execve),       SYMBOL(execvpe),     SYMBOL(fexecve),     SYMBOL(posix_spawn),
    SYMBOL(posix_spawnp),
};

const struct real *real(void)
{
    static struct real found;
    static atomic_bool done;
    if (atomic_load_explicit(&done, memory_order_acquire))
        return &found;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *f = dlsym(RTLD_NEXT, symbols[i].name);
        memcpy((char *)&found + symbols[i].offset, &f, sizeof f);
    }
    atomic_store_explicit(&done, true, memory_order_release);
    return &found;
}
