#pragma once
/* What berthd counts, as metrics for Prometheus. */

#include "berthd/server.h"

#define METRICS_WORDS_MAX 16

/* A number by a word, such as workers by state. */
struct metrics_count {
    const char *word; /* NULL: the end of the list */
    uint64_t n;
};

/* One application, or pool, at this moment. */
struct metrics_app {
    const char *name;
    uint64_t waiting;                                 /* connections that were not taken yet */
    bool pool;                                        /* the rest is known of pools only */
    uint64_t open;                                    /* connections handed over and not closed */
    uint64_t refused;                                 /* connections that were for it */
    uint64_t memory;                                  /* bytes, of all workers */
    struct metrics_count workers[METRICS_WORDS_MAX];  /* by state */
    struct metrics_count restarts[METRICS_WORDS_MAX]; /* since berthd started, by reason */
};

/* Measures one application. */
void metrics_app(const struct app *a, struct metrics_app *ret_app);
/* The whole page, malloc()ed; NULL when memory is short. */
char *metrics_text(struct server *s);

/* `where` is of --metrics: an address, "off", or NULL. Nothing is served before metrics_settle().
 */
void metrics_init(struct server *s, const char *where);
/* Listens where --metrics says, else where the configuration says, else at the socket `metrics` in
 * the runtime folder. Complains when that fails: berthd serves without metrics, too. */
void metrics_settle(struct server *s);
