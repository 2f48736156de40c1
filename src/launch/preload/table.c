/* The memory of one process: a byte of hints for each descriptor, and a few notes of what a queue
 * cannot tell by itself. Lock-free: a slot that another thread (or a signal handler's interrupted
 * frame) is busy with is passed over. A fork in the middle of a change costs one slot. */
#include <pthread.h>
#include <stdatomic.h>

#include "launch/preload/shim.h"

#define HINT_FDS  65536 /* larger descriptors work without hints */
#define NOTES_MAX 192

static _Atomic uint8_t hints[HINT_FDS];
static atomic_int hint_top; /* no hint at or above it */
static atomic_int owner;    /* the process whose memory this is */

enum slot_state { SLOT_FREE, SLOT_BUSY, SLOT_FULL };
static struct slot {
    atomic_int state;
    struct note note;
} slots[NOTES_MAX];

static void owner_set(void)
{
    atomic_store(&owner, getpid());
}

__attribute__((constructor)) static void owner_start(void)
{
    owner_set();
    (void)pthread_atfork(NULL, NULL, owner_set);
}

bool memory_is_borrowed(void)
{
    /* vfork() runs no handler, so the child's number differs from the owner's. */
    return getpid() != atomic_load(&owner);
}

uint8_t hint_get(int fd)
{
    if (fd < 0 || fd >= HINT_FDS)
        return 0;
    return atomic_load_explicit(&hints[fd], memory_order_relaxed);
}

void hint_set(int fd, uint8_t hint)
{
    if (fd < 0 || fd >= HINT_FDS)
        return;
    int top = atomic_load(&hint_top);
    while (top <= fd && !atomic_compare_exchange_weak(&hint_top, &top, fd + 1))
        ;
    atomic_store(&hints[fd], hint);
}

int hint_next(int fd)
{
    int top = atomic_load(&hint_top);
    for (fd = fd < 0 ? 0 : fd; fd < top; fd++)
        if (hint_get(fd))
            return fd;
    return -1;
}

static bool slot_take(struct slot *s, int from)
{
    int want = from;
    return atomic_compare_exchange_strong(&s->state, &want, SLOT_BUSY);
}

static bool note_is_of(const struct note *n, const struct note *key)
{
    return n->kind == key->kind && n->fd == key->fd &&
           (n->kind != NOTE_OPTION || addr_equal(&n->addr, &key->addr));
}

static bool note_is(const struct note *n, const struct note *key)
{
    return note_is_of(n, key) && n->a == key->a && n->b == key->b;
}

void note_drop(const struct note *n)
{
    for (struct slot *s = slots; s < slots + NOTES_MAX; s++)
        if (slot_take(s, SLOT_FULL))
            atomic_store(&s->state, note_is(&s->note, n) ? SLOT_FREE : SLOT_FULL);
}

void note_put(const struct note *n)
{
    note_drop(n);
    for (struct slot *s = slots; s < slots + NOTES_MAX; s++) {
        if (!slot_take(s, SLOT_FREE))
            continue;
        s->note = *n;
        atomic_store(&s->state, SLOT_FULL);
        return;
    }
}

bool note_next(struct note *n, size_t *cursor)
{
    while (*cursor < NOTES_MAX) {
        struct slot *s = &slots[(*cursor)++];
        if (!slot_take(s, SLOT_FULL))
            continue;
        bool found = note_is_of(&s->note, n);
        if (found)
            *n = s->note;
        atomic_store(&s->state, SLOT_FULL);
        if (found)
            return true;
    }
    return false;
}

void hint_forget(int fd)
{
    if (!hint_get(fd))
        return;
    hint_set(fd, 0);
    for (struct slot *s = slots; s < slots + NOTES_MAX; s++)
        if (slot_take(s, SLOT_FULL))
            atomic_store(&s->state, s->note.fd == fd ? SLOT_FREE : SLOT_FULL);
}
