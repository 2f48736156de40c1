/* Formats one log line and writes it with one call, so that lines of several processes do not mix.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static const char *log_name = "berth";
static enum log_level log_limit = LOG_INFO;

static const char *const words[] = {"error", "warn", "info", "debug"};

void log_init(const char *name, enum log_level level)
{
    log_name = name;
    log_limit = level;
    /* The first conversion of a time opens a file, which a sandbox forbids later. */
    tzset();
}

int log_level_parse(const char *word)
{
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    return -1;
}

enum log_level log_level(void)
{
    return log_limit;
}

void log_line(enum log_level level, const char *format, ...)
{
    if (level > log_limit)
        return;
    int saved = errno;
    char line[LINE_MAX_BYTES], when[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm))
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    int n = snprintf(line, sizeof line, "%s %s %s: ", when, log_name, words[level]);
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    size_t len = (size_t)n + (m < 0 ? 0 : (size_t)m);
    if (len > sizeof line - 2)
        len = sizeof line - 2;
    /* A name from the network must not forge a second line. */
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[len++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written;
    errno = saved;
}
