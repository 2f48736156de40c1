#pragma once
/* The files of a cgroup folder: short texts. */

#include <stddef.h>
#include <stdint.h>

#include "base/fd.h"

int cgroup_file_write(int fd, const char *file, const char *text) WARN_UNUSED;
/* The text, ended by NUL; what does not fit is cut. */
int cgroup_file_read(int fd, const char *file, char *buf, size_t size) WARN_UNUSED;
int cgroup_file_number(int fd, const char *file, uint64_t *ret_number) WARN_UNUSED;
