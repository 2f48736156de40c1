/* The memory file of an upgrade: records with a length, a kind and big-endian fields. A queue and a
 * listener are written as the messages by which dispatch is told of them, with the numbers of their
 * descriptors. berthd wrote it for itself; it is read with care all the same. */
#include "berthd/handover.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/rd.h"
#include "base/wr.h"
#include "berthd/recover.h"

#define RECORD_MAX (1 << 20)
#define FILE_MAX   (1 << 30)

enum record { RECORD_HEAD = 1, RECORD_ITEM, RECORD_CLIENT, RECORD_STORED };

static bool write_all(int fd, const void *bytes, size_t n)
{
    for (const char *at = bytes; n > 0;) {
        ssize_t done = write(fd, at, n);
        if (done <= 0)
            return false;
        at += done;
        n -= (size_t)done;
    }
    return true;
}

/* A record that did not fit is left out: what it is about ends with this berthd. */
static int record_end(int fd, enum record kind, const struct wr *w)
{
    uint8_t prefix[5];
    struct wr p = wr_init(prefix, sizeof prefix);
    wr_u32(&p, (uint32_t)w->used);
    wr_u8(&p, (uint8_t)kind);
    if (!wr_ok(w)) {
        log_warn("not handed over kind=%d reason=TooLong", kind);
        return 0;
    }
    return write_all(fd, prefix, p.used) && write_all(fd, w->p, w->used) ? 0 : -ENOSPC;
}

void handover_put_fd(struct wr *w, int fd)
{
    wr_u32(w, (uint32_t)fd);
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, 0);
}

static void write_fds(struct wr *w, const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        handover_put_fd(w, fds[i]);
}

static int write_item(int fd, struct wr w, const struct dispatchmsg *m, const int *fds,
                      size_t count)
{
    uint8_t bytes[DISPATCHMSG_MAX];
    int n = dispatchmsg_encode(m, bytes, sizeof bytes);
    wr_u8(&w, (uint8_t)count);
    write_fds(&w, fds, count);
    wr_bytes(&w, bytes, n > 0 ? (size_t)n : 0);
    return n > 0 ? record_end(fd, RECORD_ITEM, &w) : n;
}

static int write_items(int fd, struct server *s, struct wr w)
{
    int r = 0;
    list_for_each(b, &s->binds, struct bind, link)
    {
        uint8_t note[RECOVER_NOTE_MAX];
        struct dispatchmsg m;
        dispatch_bind_message(b, note, &m);
        if (r == 0)
            r = write_item(fd, w, &m, (int[]){b->write_fd, b->read_fd}, 2);
    }
    /* One that does not listen yet is opened again. */
    list_for_each(l, &s->listeners, struct shared_listener, link)
    {
        struct dispatchmsg m;
        dispatch_listener_message(l, &m);
        if (r == 0 && l->listening)
            r = write_item(fd, w, &m, l->fds, l->fd_count);
    }
    return r;
}

static int write_clients(int fd, struct server *s, struct wr w)
{
    int r = 0;
    struct client *c = NULL;
    for (struct wr each = w; r == 0 && control_save(s, &c, &each); each = w)
        r = record_end(fd, RECORD_CLIENT, &each);
    return r;
}

static int write_stored(int fd, struct server *s, struct wr w)
{
    int r = 0;
    size_t at = 0;
    for (struct wr each = w; r == 0 && systemd_save(s, &at, &each); each = w)
        r = record_end(fd, RECORD_STORED, &each);
    return r;
}

int handover_write(struct server *s, const struct handover *h)
{
    int fds[] = {s->lock_fd, s->control.fd, s->successor_fd, h->channel, h->image};
    CLEANUP_FD int fd = memfd_create("berth-handover", MFD_CLOEXEC);
    uint8_t *record = malloc(RECORD_MAX);
    if (fd < 0 || !record) {
        free(record);
        return -ENOMEM;
    }
    struct wr w = wr_init(record, RECORD_MAX), head = w;
    wr_u8(&head, HANDOVER_VERSION);
    write_fds(&head, fds, sizeof fds / sizeof *fds);
    wr_u32(&head, (uint32_t)h->dispatch_pid);
    wr_u32(&head, (uint32_t)h->keeper_pid);
    wr_u8(&head, s->control_is_given);
    wr_vec16(&head, str_of(BERTH_VERSION));
    wr_vec16(&head, str_of(h->reason));
    int r = record_end(fd, RECORD_HEAD, &head);
    if (r == 0)
        r = write_items(fd, s, w);
    if (r == 0)
        r = write_clients(fd, s, w);
    if (r == 0)
        r = write_stored(fd, s, w);
    free(record);
    if (r < 0) {
        handover_keep_in();
        return r;
    }
    (void)fcntl(fd, F_SETFD, 0);
    return fd_take(&fd);
}

void handover_keep_in(void)
{
    (void)close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* One record from *all; false at the end. */
static bool record_next(struct rd *all, enum record *ret_kind, struct rd *ret_record)
{
    uint32_t n = rd_u32(all);
    *ret_kind = (enum record)rd_u8(all);
    struct str bytes = rd_bytes(all, n);
    *ret_record = rd_init(bytes.p, bytes.n);
    return rd_ok(all);
}

static void text_take(struct rd *r, char *buf, size_t size)
{
    struct str text = rd_vec(r, 2);
    size_t n = text.n < size ? text.n : size - 1;
    memcpy(buf, text.p, n);
    buf[n] = 0;
}

static int head_read(struct rd *r, struct handover *h)
{
    if (rd_u8(r) != HANDOVER_VERSION)
        return -EPROTONOSUPPORT;
    int *fds[] = {&h->lock, &h->control, &h->successor, &h->channel, &h->image};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        *fds[i] = (int)rd_u32(r);
    h->dispatch_pid = (pid_t)rd_u32(r);
    h->keeper_pid = (pid_t)rd_u32(r);
    h->control_is_given = rd_u8(r);
    text_take(r, h->version, sizeof h->version);
    text_take(r, h->reason, sizeof h->reason);
    return rd_ok(r) ? 0 : -EBADMSG;
}

static void *file_map(int fd, size_t *ret_size)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > FILE_MAX)
        return NULL;
    void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    *ret_size = (size_t)st.st_size;
    return at == MAP_FAILED ? NULL : at;
}

int handover_open_consume(int fd, struct handover *h)
{
    size_t size;
    enum record kind;
    struct rd record;
    int r = -EBADMSG;
    *h = (struct handover){.fd = fd, .lock = -EBADF};
    void *bytes = file_map(fd, &size);
    struct rd all = rd_init(bytes, bytes ? size : 0);
    if (bytes && record_next(&all, &kind, &record) && kind == RECORD_HEAD)
        r = head_read(&record, h);
    if (bytes)
        (void)munmap(bytes, size);
    if (r < 0)
        h->fd = fd_close(h->fd);
    return r;
}

static int item_apply(struct server *s, struct rd *r)
{
    int fds[DISPATCHMSG_FDS_MAX];
    struct dispatchmsg m;
    uint8_t count = rd_u8(r);
    if (count > DISPATCHMSG_FDS_MAX)
        return -EBADMSG;
    for (uint8_t i = 0; i < count; i++)
        fds[i] = (int)rd_u32(r);
    struct str bytes = rd_bytes(r, r->left);
    if (!rd_ok(r) || dispatchmsg_decode(&m, bytes.p, bytes.n) < 0)
        return -EBADMSG;
    if (m.type == DISPATCH_QUEUE && count == 2)
        recover_queue_consume(s, &m, fds);
    else if (m.type == DISPATCH_LISTENER)
        recover_listener_consume(s, &m, fds, count);
    else
        return -EBADMSG;
    return 0;
}

static int client_apply(struct server *s, struct rd *r, struct client **asker)
{
    struct client *later;
    int err = control_restore(s, r, &later);
    if (later)
        *asker = later;
    return err;
}

int handover_apply(struct server *s, const struct handover *h, struct client **ret_asker)
{
    size_t size;
    enum record kind;
    struct rd record;
    void *bytes = file_map(h->fd, &size);
    if (!bytes)
        return -EBADMSG;
    *ret_asker = NULL;
    int bad = 0;
    for (struct rd all = rd_init(bytes, size); record_next(&all, &kind, &record);) {
        if (kind == RECORD_ITEM)
            bad += item_apply(s, &record) < 0;
        else if (kind == RECORD_CLIENT)
            bad += client_apply(s, &record, ret_asker) < 0;
        else if (kind == RECORD_STORED)
            bad += systemd_saved(s, &record) < 0;
    }
    (void)munmap(bytes, size);
    if (bad > 0)
        log_warn("not taken over records=%d", bad);
    return 0;
}
