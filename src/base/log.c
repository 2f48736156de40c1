/* Formats one log line and writes it with one call, so that lines of several processes do not mix.
 * The journal of systemd gets the level as a number in front instead, and has the time itself. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static const char *log_name = "berth";
static enum log_level log_limit = LOG_INFO;
static bool log_journal;

static const char *const words[] = {"error", "warn", "info", "debug"};
/* sd-daemon(3): the priorities of syslog. */
static const char priorities[] = {'3', '4', '6', '7'};

/* systemd names the stream that it gave as standard error; a program started by us with another one
 * still has the variable. */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long dev, ino;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_init(const char *name, enum log_level level)
{
    log_name = name;
    log_limit = level;
    log_journal = is_journal();
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

static int line_begin(char *line, size_t size, enum log_level level)
{
    char when[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (log_journal)
        return snprintf(line, size, "<%c>%s: ", priorities[level], log_name);
    if (gmtime_r(&now, &tm))
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return snprintf(line, size, "%s %s %s: ", when, log_name, words[level]);
}

void log_line(enum log_level level, const char *format, ...)
{
    if (level > log_limit)
        return;
    int saved = errno;
    char line[LINE_MAX_BYTES];
    int n = line_begin(line, sizeof line, level);
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
