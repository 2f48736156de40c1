#pragma once
/* Names that are reserved for users: a table of routes. Pure, without I/O.
 *
 * As HTTP.sys has it: a reservation covers its own route and everything below it (longer paths,
 * narrower sources, one ALPN of all), in the same scheme, host category, host and port only. A
 * reservation without a port is for every port. */

#include <sys/types.h>

#include "base/list.h"
#include "share/route.h"

#define RESERVATIONS_MAX   8192
#define RESERVE_STATUS     503
#define RESERVE_NOBODY     ((uid_t)-1)
#define RESERVE_STATUS_MIN 400
#define RESERVE_STATUS_MAX 599

struct reservation {
    struct list link, bucket;
    struct route route;
    uid_t uid;
    uid_t by; /* who reserved it: root, or a user to whom what lies above was delegated */
    bool delegate;
    bool configured;      /* by a file: commands do not remove it */
    uint16_t status;      /* HTTP: the answer while nobody serves it */
    struct list refusals; /* reserve-refuse.c; empty when it is removed */
};

#define RESERVE_BUCKETS 1024

struct reserve_table {
    struct list all; /* in the order in which they came */
    struct list buckets[RESERVE_BUCKETS];
    size_t count;
};

void reserve_table_init(struct reserve_table *t);
void reserve_table_done(struct reserve_table *t);
/* Takes a copy. -EEXIST when the very route is reserved, -ENOSPC, -ENOMEM. */
int reserve_table_add(struct reserve_table *t, const struct reservation *r) WARN_UNUSED;
void reserve_table_remove(struct reserve_table *t, struct reservation *r);
/* The reservation of this very route, or NULL. */
struct reservation *reserve_table_find(const struct reserve_table *t, const struct route *route);
/* The most specific reservation that covers the route, or NULL: the longest path, then one that
 * names the port, then the longest from=, then one with alpn= or user=. `except` is passed over. */
const struct reservation *reserve_table_cover(const struct reserve_table *t,
                                              const struct route *route,
                                              const struct reservation *except);
bool reserve_covers(const struct route *wide, const struct route *narrow);
