/* Writes lines for people on the program's standard error, each in one piece. The texts come from
 * berthd and hold names that other users chose: control characters do not reach the terminal. */
#include <stdarg.h>
#include <stdio.h>

#include "launch/preload/shim.h"

static void line_write(struct str line)
{
    char out[1024] = "berth: ";
    size_t used = strlen(out);
    for (size_t i = 0; i < line.n && used < sizeof out - 1; i++)
        out[used++] = (unsigned char)line.p[i] < ' ' || line.p[i] == 0x7f ? '?' : line.p[i];
    out[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, out, used);
    (void)written; /* There is nowhere else to say that it failed. */
}

void say_text(struct str text)
{
    int saved = errno;
    while (text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n;
        line_write((struct str){text.p, n});
        text = str_skip(text, n + 1);
    }
    errno = saved;
}

void say(const char *format, ...)
{
    int saved = errno;
    char line[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    say_text(str_of(line));
    errno = saved;
}
