#pragma once
/* One log as files in the log folder: the newest, and the older ones that rotation left. */

#include <stdint.h>
#include <sys/types.h>

#include "base/fd.h"

#define LOGFILE_NAME_MAX 240

struct logfile {
    int folder_fd; /* borrowed */
    int fd;        /* owned; -EBADF: to be opened again */
    char name[LOGFILE_NAME_MAX];
    uid_t owner;
    uint64_t size_max;
    unsigned files;
};

/* The log folder, made when it is missing. Owned by the caller. -EPERM when it is another user's or
 * open to others' writing. */
int logfile_folder(void) WARN_UNUSED;
/* Opens or makes the log of `name`; the caller fills in folder_fd, owner and the limits first. */
int logfile_open(struct logfile *f, const char *name) WARN_UNUSED;
void logfile_close(struct logfile *f);
/* Appends whole lines. Returns the bytes kept, which end with a line, and the error that kept the
 * rest away. */
size_t logfile_append(struct logfile *f, const char *text, size_t n, int *ret_err);
/* For reading; age 0 is the newest. */
int logfile_reader(const struct logfile *f, unsigned age) WARN_UNUSED;
