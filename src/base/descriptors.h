#pragma once
/* How many descriptors this process may have. */

#include <stddef.h>

/* All that the hard limit allows, from now on; returns how many that is. */
size_t descriptors_raise(void);
