#pragma once
/* Lines of an application's log: found from the end of a file, and printed. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_MAX 8192

struct log_printer {
    bool json;
    bool terminal; /* what would take a terminal over is shown as `?` */
    uint64_t at;   /* in the file that is read */
    size_t have;   /* of a line whose end has not been written yet */
    char line[LOG_LINE_MAX];
};

/* How many lines, at most `lines`, the file ends with, and where the first of them begins. */
uint64_t log_lines_back(int fd, uint64_t lines, uint64_t *ret_at);
/* Prints whole lines from p->at to the end of the file. */
void log_printer_read(struct log_printer *p, int fd);
