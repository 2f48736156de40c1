/* Finds lines in log files and prints them as they are, or as JSON. Descriptors stay the caller's.
 */
#include "cli/log-lines.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"

#define BLOCK 65536

uint64_t log_lines_back(int fd, uint64_t lines, uint64_t *ret_at)
{
    char block[BLOCK];
    struct stat st;
    uint64_t found = 0;
    *ret_at = 0;
    if (fstat(fd, &st) < 0)
        return 0;
    uint64_t end = (uint64_t)st.st_size, start = end;
    if (lines == 0)
        *ret_at = end;
    while (start > 0 && lines > 0) {
        size_t n = start < BLOCK ? (size_t)start : BLOCK;
        start -= n;
        if (pread(fd, block, n, (off_t)start) != (ssize_t)n)
            return found;
        for (size_t i = n; i > 0; i--) {
            /* The newline of line `found` from the end; one more begins the line behind it. */
            if (block[i - 1] != '\n' || found++ < lines)
                continue;
            *ret_at = start + i;
            return lines;
        }
    }
    return found;
}

/* Colours pass, as programs write them; whatever else moves a cursor or renames a window does not.
 */
static size_t colour_length(const char *p, size_t n)
{
    size_t i = 2;
    if (n < 3 || p[0] != '\033' || p[1] != '[')
        return 0;
    while (i < n && (ascii_is_digit(p[i]) || p[i] == ';'))
        i++;
    return i < n && p[i] == 'm' ? i + 1 : 0;
}

static void print_tame(const char *p, size_t n)
{
    bool coloured = false;
    for (size_t i = 0; i < n; i++) {
        size_t skip = colour_length(p + i, n - i);
        unsigned char c = (unsigned char)p[i];
        coloured |= skip > 0;
        if (skip > 0) {
            (void)fwrite(p + i, 1, skip, stdout);
            i += skip - 1;
        } else {
            (void)putchar((c < 0x20 && c != '\t') || c == 0x7f ? '?' : c);
        }
    }
    if (coloured)
        (void)fputs("\033[0m", stdout);
    (void)putchar('\n');
}

/* JSON is UTF-8; programs write bytes. */
static json_t *text_json(char *p, size_t n)
{
    json_t *j = json_stringn(p, n);
    for (size_t i = 0; !j && i < n; i++)
        if ((unsigned char)p[i] >= 0x80)
            p[i] = '?';
    return j ? j : json_stringn(p, n);
}

static void print_json(char *p, size_t n)
{
    char *end = p + n, *worker = memchr(p, ' ', n);
    char *text = worker ? memchr(worker + 1, ' ', (size_t)(end - worker - 1)) : NULL;
    json_t *j = json_object();
    if (text) {
        (void)json_object_set_new(j, "time", text_json(p, (size_t)(worker - p)));
        (void)json_object_set_new(j, "worker", text_json(worker + 1, (size_t)(text - worker - 1)));
        p = text + 1;
    }
    (void)json_object_set_new(j, "text", text_json(p, (size_t)(end - p)));
    (void)json_dumpf(j, stdout, JSON_PRESERVE_ORDER);
    (void)putchar('\n');
    json_decref(j);
}

static void line_end(struct log_printer *p)
{
    if (p->json) {
        print_json(p->line, p->have);
    } else if (p->terminal) {
        print_tame(p->line, p->have);
    } else {
        (void)fwrite(p->line, 1, p->have, stdout);
        (void)putchar('\n');
    }
    p->have = 0;
}

void log_printer_read(struct log_printer *p, int fd)
{
    char block[BLOCK];
    struct stat st;
    ssize_t n;
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size < p->at)
        p->at = 0; /* emptied by hand */
    while ((n = pread(fd, block, sizeof block, (off_t)p->at)) > 0) {
        p->at += (uint64_t)n;
        for (ssize_t i = 0; i < n; i++) {
            if (block[i] == '\n' || p->have == sizeof p->line)
                line_end(p);
            if (block[i] != '\n')
                p->line[p->have++] = block[i];
        }
    }
}
