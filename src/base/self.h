#pragma once
/* Where berth's own files are. */

#include <stddef.h>

/* Finds a file of ours: `built` beside the running program (a build folder), or where it is
 * `installed`, relative to that. NULL when it is nowhere. */
const char *self_file(const char *built, const char *installed, char *buf, size_t size);
