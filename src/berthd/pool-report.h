#pragma once
/* A pool as JSON; the caller's. */

#include <jansson.h>

#include "berthd/metrics.h"
#include "berthd/pool.h"

/* Connections are counted anew when the last count is older. */
#define POOL_COUNT_FRESH_MS 500

json_t *pool_report(struct pool *p);
/* The same for the metrics. */
void pool_measure(struct pool *p, struct metrics_app *ret_app);
