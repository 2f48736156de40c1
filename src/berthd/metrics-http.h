#pragma once
/* The page that a Prometheus fetches: GET /metrics over a Unix socket or a loopback address, on the
 * loop of berthd. A request is read up to 4 KiB and understood by its first line only; at most 8
 * clients are served at once, each for 10 seconds; a page is made at most once a second. */

#include <stdbool.h>

#include "base/addr.h"
#include "loop/acceptor.h"

#define METRICS_CLIENTS_MAX 8
#define METRICS_REQUEST_MAX 4096

struct metrics_page;

struct metrics_http {
    struct loop *loop;
    struct acceptor acceptor; /* closed: not serving */
    struct addr where;
    struct list clients;
    size_t client_count;
    struct metrics_page *page; /* counted; the newest that was made */
    char *(*make)(void *ctx);  /* the text, malloc()ed; NULL when that failed */
    void *ctx;
};

void metrics_http_init(struct metrics_http *m, struct loop *l, char *(*make)(void *ctx), void *ctx);
/* Listens at `where`, and no longer where it did before; AF_UNSPEC: nowhere. -EINVAL for an address
 * that others can reach. When it fails, everything is as it was. */
int metrics_http_listen(struct metrics_http *m, const struct addr *where) WARN_UNUSED;
void metrics_http_stop(struct metrics_http *m);
