/* The output of workers: bytes come in through FIFOs on the loop, lines with time and number in
 * front go out to the application's log file. A log owns its workers' descriptors. */
#include "berthd/applog.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "berthd/logfile.h"

#define TURN_MAX   16384 /* bytes read at once from one worker */
#define DRAIN_MAX  8     /* turns for a worker that is gone; a FIFO holds 64 KiB */
#define BATCH_MAX  65536
#define PREFIX_MAX 48
#define RETRY_MS   5000 /* a log that lost lines looks so often whether there is room */

struct applog {
    struct list link;
    struct applogs *all;
    char *name;
    struct logfile file;
    struct list workers;
    size_t worker_count;
    uint64_t dropped; /* lines since the last that could be written */
    int dropped_err;
    struct timer retry;
};

struct worker {
    struct list link;
    struct applog *log;
    unsigned number;
    int fd; /* owned */
    struct watch watch;
    size_t have; /* bytes of a line that has not ended */
    char part[APPLOG_LINE_MAX];
};

/* Lines of one turn, written together. */
struct batch {
    struct applog *log;
    char when[32];
    size_t used, max;
    char text[BATCH_MAX];
};

void applogs_init(struct applogs *all, struct loop *l)
{
    *all = (struct applogs){.loop = l, .folder_fd = -EBADF};
    list_init(&all->logs);
}

void applogs_done(struct applogs *all)
{
    list_for_each(l, &all->logs, struct applog, link) applog_close(l);
    all->folder_fd = fd_close(all->folder_fd);
}

static void time_text(char buf[32])
{
    struct timespec now;
    struct tm tm;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    size_t n = gmtime_r(&now.tv_sec, &tm) ? strftime(buf, 32, "%Y-%m-%dT%H:%M:%S", &tm) : 0;
    (void)snprintf(buf + n, 32 - n, ".%03uZ", (unsigned)(now.tv_nsec / 1000000) % 1000);
}

static uint64_t lines_in(const char *text, size_t n)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    return lines;
}

static void drop(struct applog *l, uint64_t lines, int err)
{
    if (l->dropped == 0) {
        log_warn("application log not written app=%s err=%s", l->name, strerror(-err));
        loop_timer(l->all->loop, &l->retry, RETRY_MS);
    }
    l->dropped += lines;
    l->dropped_err = err;
}

/* Says how many lines are missing here, as soon as there is room for that. */
static bool confess(struct applog *l)
{
    char line[256], when[32];
    int err;
    if (l->dropped == 0)
        return true;
    time_text(when);
    int n = snprintf(line, sizeof line, "%s - berth: %llu lines lost here: %s\n", when,
                     (unsigned long long)l->dropped, strerror(-l->dropped_err));
    if (logfile_append(&l->file, line, (size_t)n, &err) != (size_t)n)
        return false;
    l->dropped = 0;
    loop_untimer(&l->retry);
    return true;
}

static void retry_fired(struct timer *t)
{
    struct applog *l = container_of(t, struct applog, retry);
    if (!confess(l))
        loop_timer(l->all->loop, t, RETRY_MS);
}

static void batch_start(struct batch *b, struct applog *l)
{
    b->log = l;
    b->used = 0;
    b->max = l->file.size_max < sizeof b->text ? (size_t)l->file.size_max : sizeof b->text;
    time_text(b->when);
}

static void batch_write(struct batch *b)
{
    int err = -ENOSPC;
    size_t kept = 0;
    if (b->used == 0)
        return;
    if (confess(b->log))
        kept = logfile_append(&b->log->file, b->text, b->used, &err);
    else
        err = b->log->dropped_err;
    if (kept < b->used)
        drop(b->log, lines_in(b->text + kept, b->used - kept), err);
    b->used = 0;
}

static void batch_line(struct batch *b, const char *who, const char *text, size_t n)
{
    if (b->used + PREFIX_MAX + n > b->max)
        batch_write(b);
    b->used += (size_t)snprintf(b->text + b->used, PREFIX_MAX, "%s %s ", b->when, who);
    memcpy(b->text + b->used, text, n);
    b->used += n;
    b->text[b->used++] = '\n';
}

static void part_end(struct worker *w, struct batch *b)
{
    char who[16];
    (void)snprintf(who, sizeof who, "%u", w->number);
    batch_line(b, who, w->part, w->have);
    w->have = 0;
}

static void worker_feed(struct worker *w, struct batch *b, const char *p, size_t n)
{
    while (n > 0) {
        const char *end = memchr(p, '\n', n);
        size_t rest = end ? (size_t)(end - p) : n, room = sizeof w->part - w->have;
        size_t take = rest < room ? rest : room;
        memcpy(w->part + w->have, p, take);
        w->have += take;
        p += take;
        n -= take;
        if (take == rest && !end)
            return;
        part_end(w, b);
        if (take == rest) {
            p++;
            n--;
        }
    }
}

static void worker_free(struct worker *w)
{
    loop_unwatch(w->log->all->loop, &w->watch);
    (void)fd_close(w->fd);
    list_remove(&w->link);
    w->log->worker_count--;
    free(w);
}

/* One piece. False when nothing more can come. */
static bool worker_turn(struct worker *w, struct batch *b)
{
    char in[TURN_MAX];
    ssize_t n = read(w->fd, in, sizeof in);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false;
    worker_feed(w, b, in, (size_t)n);
    return true;
}

static void worker_end(struct worker *w, struct batch *b)
{
    if (w->have > 0)
        part_end(w, b);
    batch_write(b);
    worker_free(w);
}

static void worker_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct worker *w = container_of(watch, struct worker, watch);
    struct batch b;
    batch_start(&b, w->log);
    if (worker_turn(w, &b))
        batch_write(&b);
    else
        worker_end(w, &b);
}

/* Who is gone wrote at most what the FIFO holds; who is not must not keep us here. */
static void worker_drain(struct worker *w)
{
    struct batch b;
    batch_start(&b, w->log);
    for (int i = 0; i < DRAIN_MAX && worker_turn(w, &b); i++)
        ;
    worker_end(w, &b);
}

static void limits_set(struct applog *l, struct applog_limits limits)
{
    /* One line with its prefix fits in any case. */
    uint64_t least = APPLOG_LINE_MAX + PREFIX_MAX;
    uint64_t size = limits.size ? limits.size : APPLOG_SIZE_DEFAULT;
    l->file.size_max = size > least ? size : least;
    l->file.files = limits.files ? limits.files : APPLOG_FILES_DEFAULT;
}

struct applog *applog_find(const struct applogs *all, const char *name)
{
    struct applog *newest = NULL;
    list_for_each(l, &all->logs, struct applog, link)
    {
        if (strcmp(l->name, name) == 0)
            newest = l;
    }
    return newest;
}

/* A name may have been another user's before: what he wrote is not for the next one to read. */
static struct applog *find_of(const struct applogs *all, const char *name, uid_t owner)
{
    list_for_each(l, &all->logs, struct applog, link)
    {
        if (strcmp(l->name, name) == 0 && l->file.owner == owner)
            return l;
    }
    return NULL;
}

static void applog_free(struct applog *l)
{
    loop_untimer(&l->retry);
    list_remove(&l->link);
    logfile_close(&l->file);
    free(l->name);
    free(l);
}

static int applog_new(struct applogs *all, const char *name, uid_t owner,
                      struct applog_limits limits, struct applog **ret_log)
{
    struct applog *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    l->all = all;
    l->retry.fire = retry_fired;
    list_init(&l->workers);
    list_append(&all->logs, &l->link);
    l->name = strdup(name);
    l->file = (struct logfile){.folder_fd = all->folder_fd, .fd = -EBADF, .owner = owner};
    limits_set(l, limits);
    int r = l->name ? logfile_open(&l->file, name) : -ENOMEM;
    if (r < 0)
        applog_free(l);
    else
        *ret_log = l;
    return r;
}

int applog_open(struct applogs *all, const char *name, uid_t owner, struct applog_limits limits,
                struct applog **ret_log)
{
    if (all->folder_fd < 0) {
        int fd = logfile_folder();
        if (fd < 0)
            return fd;
        all->folder_fd = fd;
    }
    struct applog *l = find_of(all, name, geteuid() == 0 ? owner : geteuid());
    if (!l)
        return applog_new(all, name, owner, limits, ret_log);
    limits_set(l, limits);
    *ret_log = l;
    return 0;
}

void applog_close(struct applog *l)
{
    if (!l)
        return;
    list_for_each(w, &l->workers, struct worker, link) worker_drain(w);
    applog_free(l);
}

uid_t applog_owner(const struct applog *l)
{
    return l->file.owner;
}

int applog_attach_worker_consume(struct applog *l, int read_fd, unsigned worker)
{
    CLEANUP_FD int fd = read_fd;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    if (l->worker_count >= APPLOG_WORKERS_MAX)
        return -ENOSPC;
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->log = l;
    w->number = worker;
    w->watch.ready = worker_ready;
    w->watch.fd = -EBADF;
    w->fd = fd_take(&fd);
    list_append(&l->workers, &w->link);
    l->worker_count++;
    int r = loop_watch(l->all->loop, &w->watch, w->fd, EPOLLIN);
    if (r < 0)
        worker_free(w);
    return r;
}

void applog_detach_worker(struct applog *l, unsigned worker)
{
    list_for_each(w, &l->workers, struct worker, link)
    {
        if (w->number == worker)
            worker_drain(w);
    }
    /* It is opened again for the next line: names come and go, descriptors are few. */
    if (list_empty(&l->workers))
        logfile_close(&l->file);
}

void applog_note(struct applog *l, const char *text)
{
    struct batch b;
    batch_start(&b, l);
    size_t n = strlen(text);
    batch_line(&b, "-", text, n < APPLOG_LINE_MAX ? n : APPLOG_LINE_MAX);
    batch_write(&b);
}

int applog_read_fd(const struct applog *l, unsigned age)
{
    return logfile_reader(&l->file, age);
}
