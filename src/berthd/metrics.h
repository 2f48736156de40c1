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

/* Listens where Prometheus is to ask; AF_UNSPEC: nowhere. */
int metrics_listen(struct server *s, const struct addr *where) WARN_UNUSED;
/* The socket `metrics` in the runtime folder. */
int metrics_default(struct addr *ret_where) WARN_UNUSED;
