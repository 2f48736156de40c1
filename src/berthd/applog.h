#pragma once
/* What the workers of applications write: one file an application in the log folder
 * ($BERTH_LOG_DIR; `logs` in $BERTH_RUNTIME_DIR; /var/log/berth for root; $XDG_STATE_HOME/berth/log
 * or ~/.local/state/berth/log), rotated by size. Each line has the time and the worker's number in
 * front:
 *
 *   2026-11-22T21:00:00.123Z 1 text
 *
 * A worker's text comes through a FIFO or pipe and is read a bounded piece a turn, so no worker
 * keeps berthd from others. What the disk has no room for is dropped, counted, and told when there
 * is room again. */

#include <sys/types.h>

#include "loop/loop.h"

#define APPLOG_LINE_MAX      4096 /* a longer line becomes several */
#define APPLOG_WORKERS_MAX   1024
#define APPLOG_SIZE_DEFAULT  (10u << 20)
#define APPLOG_FILES_DEFAULT 5

struct applog;

/* All logs of this berthd. */
struct applogs {
    struct loop *loop;
    int folder_fd; /* owned; -EBADF until the first log is opened */
    struct list logs;
};

/* 0: the default. */
struct applog_limits {
    uint64_t size;  /* bytes of one file */
    unsigned files; /* NAME.log and the older ones, NAME.log.1 and so on */
};

void applogs_init(struct applogs *all, struct loop *l);
void applogs_done(struct applogs *all);

/* The application's log, which is made when there is none yet and gets these limits in any case.
 * `owner` may read it, and root; a file of that name that is another user's is left alone. */
int applog_open(struct applogs *all, const char *name, uid_t owner, struct applog_limits limits,
                struct applog **ret_log) WARN_UNUSED;
/* Writes what has come so far. Harmless for NULL. */
void applog_close(struct applog *l);
struct applog *applog_find(const struct applogs *all, const char *name);
uid_t applog_owner(const struct applog *l);

/* Takes the reading end over, on failure, too. It goes at end-of-file, or by applog_detach(). */
int applog_attach_worker_consume(struct applog *l, int read_fd, unsigned worker) WARN_UNUSED;
/* The worker is gone: what it wrote last is written, and its descriptor closed. */
void applog_detach_worker(struct applog *l, unsigned worker);
/* A line of berthd's own, with `-` for the worker. */
void applog_note(struct applog *l, const char *text);

/* A descriptor to read the log by; 0 is the newest file. -ENOENT when there are not so many. */
int applog_read_fd(const struct applog *l, unsigned age) WARN_UNUSED;
