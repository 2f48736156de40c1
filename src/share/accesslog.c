/* Lines into a buffer, the buffer into a file with one write. A line is never cut: one that is
 * written in part is finished first. */
#include "share/accesslog.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LINE_MAX 1024

struct logfile *logfile_new_consume(int fd)
{
    struct logfile *f = calloc(1, sizeof *f);
    if (!f) {
        (void)fd_close(fd);
        return NULL;
    }
    f->refs = 1;
    f->fd = fd;
    return f;
}

struct logfile *logfile_ref(struct logfile *f)
{
    if (f)
        (void)atomic_fetch_add(&f->refs, 1);
    return f;
}

void logfile_unref(struct logfile *f)
{
    if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
        return;
    (void)fd_close(f->fd);
    free(f);
}

/* RFC 3339, UTC, milliseconds. */
static size_t time_put(char *buf, size_t size)
{
    struct timespec ts;
    struct tm tm;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
    return n + (size_t)snprintf(buf + n, size - n, ".%03ldZ ", ts.tv_nsec / 1000000);
}

bool logbuf_line(struct logbuf *b, const char *format, ...)
{
    char line[LINE_MAX];
    size_t n = time_put(line, sizeof line);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + n, sizeof line - n - 1, format, args);
    va_end(args);
    if (more < 0)
        return false;
    n += (size_t)more < sizeof line - n - 1 ? (size_t)more : sizeof line - n - 2;
    line[n++] = '\n';
    if (!b->text && !(b->text = malloc(ACCESSLOG_BYTES)))
        return false;
    if (n > ACCESSLOG_BYTES - b->used)
        return false;
    memcpy(b->text + b->used, line, n);
    b->used += n;
    return true;
}

bool logbuf_flush(struct logbuf *b, struct logfile *f)
{
    if (!f || b->used == 0) {
        b->used = 0;
        return true;
    }
    ssize_t n = write(f->fd, b->text, b->used);
    if (n <= 0)
        return false;
    b->used -= (size_t)n;
    memmove(b->text, b->text + n, b->used);
    return b->used == 0;
}

const char *logbuf_word(struct str s, char *buf, size_t size)
{
    if (s.n == 0 || !s.p)
        return "-";
    size_t n = s.n < size - 1 ? s.n : size - 1;
    for (size_t i = 0; i < n; i++)
        buf[i] = s.p[i] > ' ' && s.p[i] < 0x7f && s.p[i] != '"' ? s.p[i] : '?';
    buf[n] = 0;
    return buf;
}
