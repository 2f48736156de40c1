#pragma once
/* A file that is replaced as a whole: a full disk or a kill at any moment leaves the old one or the
 * new one, and whoever reads it finds one of the two. */

#include <stdbool.h>
#include <sys/types.h>

#include "base/fd.h"
#include "base/str.h"

/* Written beside `path`, as PATH.new, of which there must not be two writers. `durable`: it has
 * reached the disk when this returns. Negative: the old one is still there. */
int replace_file(const char *path, struct str text, mode_t mode, bool durable) WARN_UNUSED;
