#pragma once
/* Where an identity and what belongs to it are kept. */

#include <stddef.h>

#include "base/fd.h"

/* The path of the key: $BERTH_KEY or ~/.config/berth/key. With `beside` the path of that file in
 * the same folder. -ENOENT when there is no home folder, -ENAMETOOLONG. */
int key_place(const char *beside, char *buf, size_t size) WARN_UNUSED;
