#pragma once
/* A pool as JSON; the caller's. */

#include <jansson.h>

#include "berthd/pool.h"

/* Connections are counted anew when the last count is older. */
#define POOL_COUNT_FRESH_MS 500

json_t *pool_report(struct pool *p);
