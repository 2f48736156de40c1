/* berth logs: the last lines of what an application wrote, and with -f what it writes from then on.
 * berthd gives descriptors of the log's files, so that the log folder itself stays closed. */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/log-lines.h"

#define FILES_MAX     1000 /* what berthd answers for */
#define LINES_DEFAULT 100
#define POLL_MS       200
#define ASK_EVERY     5 /* polls: then berthd is asked whether the log has rotated */

static const char help[] =
    "usage: berth logs NAME [-f] [-n LINES|all] [--json]\n"
    "\n"
    "Shows what an application wrote: time, number of the worker (`-`: berthd), text. Only "
    "applications\n"
    "that berthd starts itself have a log; what `berth run -- PROGRAM` starts writes to its "
    "terminal.\n"
    "\n"
    "  -f, --follow         goes on with what is written from now on\n"
    "  -n, --lines LINES    the last LINES lines (default 100), or all\n"
    "  --json               one JSON object a line: time, worker, text\n";

struct options {
    const char *name;
    bool follow, json;
    uint64_t lines;
};

/* Files of one log, the newest first. */
struct files {
    int fds[FILES_MAX]; /* owned */
    size_t count;
};

static int lines_parse(const char *text, uint64_t *ret_lines)
{
    char *end;
    if (text && strcmp(text, "all") == 0) {
        *ret_lines = UINT64_MAX;
        return CLI_OK;
    }
    errno = 0;
    unsigned long long v = text ? strtoull(text, &end, 10) : 0;
    if (!text || text[0] < '0' || text[0] > '9' || *end || errno)
        return cli_usage("logs", "-n takes a number of lines or `all`");
    *ret_lines = v;
    return CLI_OK;
}

static int options_read(int argc, char **argv, struct options *o)
{
    *o = (struct options){.lines = LINES_DEFAULT};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        int status = CLI_OK;
        if (strcmp(a, "--help") == 0) {
            (void)fputs(help, stdout);
            exit(CLI_OK);
        } else if (strcmp(a, "-f") == 0 || strcmp(a, "--follow") == 0) {
            o->follow = true;
        } else if (strcmp(a, "--json") == 0) {
            o->json = true;
        } else if (strcmp(a, "-n") == 0 || strcmp(a, "--lines") == 0) {
            status = lines_parse(++i < argc ? argv[i] : NULL, &o->lines);
        } else if (a[0] == '-' || o->name) {
            status = cli_usage("logs", "unexpected argument '%s'", a);
        } else {
            o->name = a;
        }
        if (status != CLI_OK)
            return status;
    }
    return o->name ? CLI_OK : cli_usage("logs", "which application's?");
}

/* A descriptor of the log's file of this age; -ENOENT when there is none so old. */
static int file_ask(int daemon, const char *name, unsigned age, char **ret_text)
{
    char number[16];
    int fd = -EBADF;
    (void)snprintf(number, sizeof number, "%u", age);
    int r =
        daemon_command(daemon, (const char *[]){"logs", name, number, NULL}, -EBADF, &fd, ret_text);
    return r < 0 ? r : fd < 0 ? -EPROTO : fd;
}

static bool same_file(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void files_close(struct files *f)
{
    while (f->count > 0)
        (void)close(f->fds[--f->count]);
}

/* Collects files from the newest on until `enough` says so. A log that rotates meanwhile shows a
 * file again under its next age. */
static void files_collect(int daemon, const char *name, struct files *f,
                          bool (*enough)(void *ctx, int fd), void *ctx)
{
    for (unsigned age = 1; age < FILES_MAX && !enough(ctx, f->fds[f->count - 1]); age++) {
        char *text = NULL;
        int fd = file_ask(daemon, name, age, &text);
        free(text);
        if (fd < 0)
            return;
        if (same_file(fd, f->fds[f->count - 1]))
            (void)close(fd);
        else
            f->fds[f->count++] = fd;
    }
}

/* Where the lines that are asked for begin, in the file that was looked at last. */
struct tail {
    uint64_t lines;
    uint64_t at;
};

static bool tail_enough(void *ctx, int fd)
{
    struct tail *t = ctx;
    t->lines -= log_lines_back(fd, t->lines, &t->at);
    return t->lines == 0;
}

static int show_tail(int daemon, const struct options *o, struct log_printer *p, int *ret_newest)
{
    char *text = NULL;
    struct files f = {.count = 0};
    struct tail tail = {.lines = o->lines};
    int fd = file_ask(daemon, o->name, 0, &text);
    if (fd < 0) {
        int status = cli_fail("logs", "%s", text ? text : strerror(-fd));
        free(text);
        return status;
    }
    free(text);
    f.fds[f.count++] = fd;
    files_collect(daemon, o->name, &f, tail_enough, &tail);
    *ret_newest = dup(f.fds[0]);
    for (size_t i = f.count; i > 0; i--) {
        p->at = i == f.count ? tail.at : 0;
        log_printer_read(p, f.fds[i - 1]);
    }
    files_close(&f);
    return *ret_newest < 0 ? cli_fail("logs", "%s", strerror(errno)) : CLI_OK;
}

static bool is_known(void *ctx, int fd)
{
    return same_file(*(int *)ctx, fd);
}

/* Whether the newest file is the newest still. */
static bool is_newest(int daemon, const char *name, int fd)
{
    char *text = NULL;
    int now = file_ask(daemon, name, 0, &text);
    bool same = now >= 0 && same_file(now, fd);
    (void)fd_close(now);
    free(text);
    return same;
}

/* The log may have rotated, even more than once: what the old file got last comes first, then the
 * files between it and the newest, whole. When it rotates under our eyes, it is looked at again the
 * next time. */
static void follow_rotation(int daemon, const char *name, int newest, struct log_printer *p,
                            int *current)
{
    struct files f = {.count = 0};
    f.fds[f.count++] = newest;
    files_collect(daemon, name, &f, is_known, current);
    log_printer_read(p, *current);
    if (same_file(newest, *current) || !is_newest(daemon, name, newest)) {
        files_close(&f);
        return;
    }
    bool found = same_file(f.fds[f.count - 1], *current);
    for (size_t i = found ? f.count - 1 : f.count; i > 0; i--) {
        p->at = 0;
        log_printer_read(p, f.fds[i - 1]);
    }
    (void)close(*current);
    *current = f.fds[0];
    for (size_t i = 1; i < f.count; i++)
        (void)close(f.fds[i]);
}

/* A berthd that is being replaced is asked again a second later. */
static int follow_ask(int *daemon, const struct options *o, struct log_printer *p, int *current)
{
    char *text = NULL;
    if (*daemon < 0)
        *daemon = daemon_connect(false);
    int fd = *daemon < 0 ? *daemon : file_ask(*daemon, o->name, 0, &text);
    int status = CLI_OK;
    if (fd >= 0)
        follow_rotation(*daemon, o->name, fd, p, current);
    else if (text)
        status = cli_fail("logs", "%s", text);
    else
        *daemon = fd_close(*daemon);
    free(text);
    return status;
}

static int follow(int *daemon, const struct options *o, struct log_printer *p, int *current)
{
    int status = CLI_OK;
    for (unsigned n = 1; status == CLI_OK; n++) {
        log_printer_read(p, *current);
        if (fflush(stdout) == EOF)
            return CLI_TROUBLE;
        (void)poll(NULL, 0, POLL_MS);
        if (n % ASK_EVERY == 0)
            status = follow_ask(daemon, o, p, current);
    }
    return status;
}

int cmd_logs(int argc, char **argv)
{
    struct options o;
    int status = options_read(argc, argv, &o);
    if (status != CLI_OK)
        return status;
    CLEANUP_FD int daemon = daemon_connect(false);
    CLEANUP_FD int current = -EBADF;
    struct log_printer printer = {.json = o.json, .terminal = isatty(STDOUT_FILENO)};
    if (daemon == -ENOENT)
        return cli_fail("logs", "no berthd runs: `berth run -- PROGRAM` starts one");
    if (daemon < 0)
        return cli_fail("logs", "berthd cannot be reached: %s", strerror(-daemon));
    status = show_tail(daemon, &o, &printer, &current);
    return status == CLI_OK && o.follow ? follow(&daemon, &o, &printer, &current) : status;
}
