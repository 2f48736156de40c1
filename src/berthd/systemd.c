/* sd_notify(3) and the descriptor store in their few lines. A queue or listener is stored under a
 * name of its own, "q17" or "l3": its descriptors and a memory file with the message that dispatch
 * is told about it. The file is written anew when that changes, so the manager is told only
 * once. */
#include "berthd/systemd.h"

#include <assert.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rd.h"
#include "base/wr.h"
#include "berthd/handover.h"
#include "berthd/recover.h"

#define FIRST_FD   3
#define TAKEN_MAX  131072
#define TEXT_BYTES 512
#define SEND_SEC   2
/* Two slots, of which the first byte of the file names the one that counts: a berthd that is killed
 * while it writes leaves the older one. */
#define SLOT_BYTES (DISPATCHMSG_MAX + 4)
#define SLOT_AT(i) (8 + (off_t)(i)*SLOT_BYTES)

static void send_text(struct server *s, const char *text, const int *fds, size_t fd_count)
{
    struct systemd *d = &s->systemd;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * (DISPATCHMSG_FDS_MAX + 1))];
    } control = {0};
    struct iovec iov = {(void *)text, strlen(text)};
    struct msghdr m = {
        .msg_name = &d->to, .msg_namelen = d->to_len, .msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count > 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                          .cmsg_type = SCM_RIGHTS,
                                          .cmsg_len = CMSG_LEN(sizeof(int) * fd_count)};
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * fd_count);
    }
    if (sendmsg(d->fd, &m, MSG_NOSIGNAL) < 0)
        log_debug("service manager not told err=%d", errno);
}

void systemd_tell(struct server *s, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list args;
    if (s->systemd.fd < 0)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    send_text(s, text, NULL, 0);
}

void systemd_ready(struct server *s)
{
    systemd_tell(s, "READY=1\nSTATUS=Sharing ports for programs");
}

void systemd_reloading(struct server *s)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    systemd_tell(s, "RELOADING=1\nMONOTONIC_USEC=%llu",
                 (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
}

static void watchdog(struct timer *t)
{
    struct systemd *d = container_of(t, struct systemd, watchdog);
    systemd_tell(d->server, "WATCHDOG=1");
    loop_timer(&d->server->loop, t, d->watchdog_ms);
}

static void watchdog_start(struct server *s)
{
    const char *period = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!period || (pid && strtol(pid, NULL, 10) != getpid()))
        return;
    s->systemd.watchdog_ms = (uint32_t)(strtoull(period, NULL, 10) / 3000);
    s->systemd.watchdog.fire = watchdog;
    if (s->systemd.watchdog_ms > 0)
        watchdog(&s->systemd.watchdog);
}

static void socket_open(struct systemd *d, const char *path)
{
    size_t n = path ? strlen(path) : 0;
    struct timeval limit = {.tv_sec = SEND_SEC};
    d->to = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (n < 2 || n >= sizeof d->to.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(d->to.sun_path, path, n);
    if (path[0] == '@')
        d->to.sun_path[0] = 0;
    d->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    d->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(d->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* "q17", "l3" or "control", or a name that is not ours. */
static void given(struct systemd *d, int fd, const char *name)
{
    struct systemd_item i = {.fd = fd};
    int end = 0;
    if (strcmp(name, "control") == 0 && d->control < 0) {
        d->control = fd;
        return;
    }
    bool ours = sscanf(name, "%c%u%n", &i.kind, &i.id, &end) == 2 && name[end] == 0 &&
                (i.kind == 'q' || i.kind == 'l') && i.id < BOARD_CLAIMS_MAX;
    struct systemd_item *more = ours ? reallocarray(d->items, d->item_count + 1, sizeof i) : NULL;
    if (!more) {
        log_warn("descriptor of the service manager not taken name=%s", name);
        (void)fd_close(fd);
        return;
    }
    d->items = more;
    d->items[d->item_count++] = i;
}

static void take_given(struct systemd *d)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    const char *list = getenv("LISTEN_FDNAMES");
    char *names = pid && count && list && strtol(pid, NULL, 10) == getpid() ? strdup(list) : NULL;
    char *name = names;
    long n = names ? strtol(count, NULL, 10) : 0;
    for (long i = 0; i < n && i < TAKEN_MAX; i++) {
        char *next = name ? strchr(name, ':') : NULL;
        if (next)
            *next++ = 0;
        (void)fcntl(FIRST_FD + (int)i, F_SETFD, FD_CLOEXEC);
        given(d, FIRST_FD + (int)i, name ? name : "");
        name = next;
    }
    free(names);
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
}

void systemd_init(struct server *s)
{
    struct systemd *d = &s->systemd;
    const char *keeps = getenv("FDSTORE");
    *d = (struct systemd){.fd = -EBADF, .control = -EBADF, .server = s};
    socket_open(d, getenv("NOTIFY_SOCKET"));
    /* Before version 254 systemd does not say; then what is sent in vain does no harm. */
    d->stores = d->fd >= 0 && (!keeps || strtol(keeps, NULL, 10) > 0);
    d->manager = d->stores ? getppid() : 0;
    take_given(d);
    if (d->fd >= 0)
        watchdog_start(s);
}

static struct systemd_notes *notes_of(struct systemd *d, enum dispatchmsg_type type)
{
    bool queue = type == DISPATCH_QUEUE || type == DISPATCH_DROP_QUEUE;
    return queue ? &d->queues : &d->listeners;
}

static char letter_of(const struct systemd *d, const struct systemd_notes *n)
{
    return n == &d->queues ? 'q' : 'l';
}

/* The place of a number's memory file; NULL when memory is short. */
static int *note_at(struct systemd_notes *n, uint32_t id)
{
    if (id >= n->count) {
        size_t count = 2 * ((size_t)id + 8);
        int *more = reallocarray(n->fds, count, sizeof *more);
        if (!more)
            return NULL;
        for (size_t i = n->count; i < count; i++)
            more[i] = -EBADF;
        n->fds = more;
        n->count = count;
    }
    return &n->fds[id];
}

static bool note_write(int fd, const struct dispatchmsg *m)
{
    uint8_t slot[SLOT_BYTES], active = 0;
    int n = dispatchmsg_encode(m, slot + 4, sizeof slot - 4);
    struct wr w = wr_init(slot, 4);
    wr_u32(&w, n > 0 ? (uint32_t)n : 0);
    (void)(pread(fd, &active, 1, 0) == 1);
    active = active == 1 ? 2 : 1;
    size_t size = 4 + (size_t)(n > 0 ? n : 0);
    return n > 0 && pwrite(fd, slot, size, SLOT_AT(active - 1)) == (ssize_t)size &&
           pwrite(fd, &active, 1, 0) == 1;
}

/* Points into `slot`. */
static int note_read(int fd, uint8_t *slot, struct dispatchmsg *ret_msg)
{
    uint8_t active;
    if (pread(fd, &active, 1, 0) != 1 || (active != 1 && active != 2))
        return -EBADMSG;
    ssize_t n = pread(fd, slot, SLOT_BYTES, SLOT_AT(active - 1));
    struct rd r = rd_init(slot, n > 0 ? (size_t)n : 0);
    uint32_t len = rd_u32(&r);
    struct str bytes = rd_bytes(&r, len);
    return rd_ok(&r) ? dispatchmsg_decode(ret_msg, bytes.p, bytes.n) : -EBADMSG;
}

void systemd_store(struct server *s, const struct dispatchmsg *m, const int *fds, size_t fd_count)
{
    struct systemd *d = &s->systemd;
    char text[64];
    if (!d->stores)
        return;
    struct systemd_notes *notes = notes_of(d, m->type);
    int *at = note_at(notes, m->id);
    if (at && *at >= 0) {
        (void)note_write(*at, m);
        return;
    }
    CLEANUP_FD int note = at ? memfd_create("berth-note", MFD_CLOEXEC) : -EBADF;
    if (note < 0 || !note_write(note, m))
        return;
    int all[DISPATCHMSG_FDS_MAX + 1] = {note};
    assert(fd_count <= DISPATCHMSG_FDS_MAX);
    memcpy(all + 1, fds, fd_count * sizeof *fds);
    (void)snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%c%u", letter_of(d, notes),
                   m->id);
    send_text(s, text, all, fd_count + 1);
    *at = fd_take(&note);
}

void systemd_forget(struct server *s, enum dispatchmsg_type type, uint32_t id)
{
    struct systemd *d = &s->systemd;
    struct systemd_notes *notes = notes_of(d, type);
    if (!d->stores || id >= notes->count || notes->fds[id] < 0)
        return;
    notes->fds[id] = fd_close(notes->fds[id]);
    systemd_tell(s, "FDSTOREREMOVE=1\nFDNAME=%c%u", letter_of(d, notes), id);
}

static int by_name(const void *a, const void *b)
{
    const struct systemd_item *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind - y->kind;
    return (x->id > y->id) - (x->id < y->id);
}

static bool is_file(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* The reading end is the one that has a name. */
static bool is_reading_end(int fd)
{
    struct sockaddr_un un;
    struct queue_name name;
    socklen_t len = sizeof un;
    return getsockname(fd, (struct sockaddr *)&un, &len) == 0 &&
           queue_name_parse(&un, len, &name) == 0;
}

static bool known(struct server *s, enum dispatchmsg_type type, uint32_t id)
{
    if (type == DISPATCH_QUEUE)
        return bind_find(s, id);
    list_for_each(l, &s->listeners, struct shared_listener, link) if (l->id == id) return true;
    return false;
}

/* All descriptors of one name; the memory file may come anywhere among them. */
static void restore_one(struct server *s, struct systemd_item *items, size_t n, bool have)
{
    uint8_t slot[SLOT_BYTES];
    int fds[DISPATCHMSG_FDS_MAX], note = -EBADF;
    size_t count = 0;
    struct dispatchmsg m;
    enum dispatchmsg_type type = items->kind == 'q' ? DISPATCH_QUEUE : DISPATCH_LISTENER;
    for (size_t i = 0; i < n; i++) {
        if (note < 0 && is_file(items[i].fd))
            note = items[i].fd;
        else if (count < DISPATCHMSG_FDS_MAX)
            fds[count++] = items[i].fd;
        else
            (void)fd_close(items[i].fd);
    }
    bool good = note >= 0 && note_read(note, slot, &m) == 0 && m.type == type &&
                m.id == items->id && (type == DISPATCH_LISTENER ? count > 0 : count == 2);
    int *at = good ? note_at(notes_of(&s->systemd, type), m.id) : NULL;
    if (at)
        *at = fd_take(&note);
    (void)fd_close(note);
    if (!at)
        systemd_tell(s, "FDSTOREREMOVE=1\nFDNAME=%c%u", items->kind, items->id);
    else if (have && !known(s, type, m.id))
        systemd_forget(s, type, m.id);
    if (!at || have) {
        while (count > 0)
            (void)fd_close(fds[--count]);
    } else if (type == DISPATCH_QUEUE) {
        int reading = is_reading_end(fds[1]);
        recover_queue_consume(s, &m, (int[]){fds[!reading], fds[reading]});
    } else {
        recover_listener_consume(s, &m, fds, count);
    }
}

void systemd_restore(struct server *s, bool have)
{
    struct systemd *d = &s->systemd;
    if (d->item_count == 0)
        return;
    qsort(d->items, d->item_count, sizeof *d->items, by_name);
    for (size_t i = 0, end; i < d->item_count; i = end) {
        for (end = i + 1; end < d->item_count && by_name(&d->items[i], &d->items[end]) == 0; end++)
            ;
        restore_one(s, &d->items[i], end - i, have);
    }
    log_info("taken back from the service manager descriptors=%zu", d->item_count);
    free(d->items);
    d->items = NULL;
    d->item_count = 0;
    if (!have)
        recover_finish(s);
}

bool systemd_save(struct server *s, size_t *at, struct wr *w)
{
    struct systemd *d = &s->systemd;
    for (size_t i; (i = (*at)++) < d->queues.count + d->listeners.count;) {
        bool queue = i < d->queues.count;
        const struct systemd_notes *n = queue ? &d->queues : &d->listeners;
        uint32_t id = (uint32_t)(queue ? i : i - d->queues.count);
        if (n->fds[id] < 0)
            continue;
        wr_u8(w, queue ? DISPATCH_QUEUE : DISPATCH_LISTENER);
        wr_u32(w, id);
        handover_put_fd(w, n->fds[id]);
        return true;
    }
    return false;
}

int systemd_saved(struct server *s, struct rd *r)
{
    enum dispatchmsg_type type = (enum dispatchmsg_type)rd_u8(r);
    uint32_t id = rd_u32(r);
    int fd = (int)rd_u32(r);
    int *at = rd_ok(r) && id < BOARD_CLAIMS_MAX ? note_at(notes_of(&s->systemd, type), id) : NULL;
    if (!at)
        return -EBADMSG;
    *at = fd;
    return 0;
}
