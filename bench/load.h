#pragma once
/* What the modes of the load generator share: the plan that main() read from the command line, the
 * sockets they open and the numbers they give back. */

#include "base/fd.h"
#include "hist.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct plan {
    const char *mode;
    const char *host;
    const char *path;
    struct sockaddr_in to;
    double seconds;
    unsigned connections;
    unsigned threads;
    unsigned count;
    unsigned pause_us;
    /* Source addresses to take in turn, from 127.1.0.1 up; 0 leaves the choice to the kernel. */
    unsigned sources;
    /* The run goes on after its seconds until so many requests were answered or lost. */
    unsigned requests;
    /* How long the answers that are on their way at the end are waited for; what has not come by
     * then is stalled. */
    double grace;
    /* Each client rests between two connections, for twice this at most and for this on average. */
    unsigned think_us;
    /* Held connections send their request, too. */
    bool ask;
    char request[1024];
    size_t request_len;
};

struct tally {
    uint64_t done;
    uint64_t failed;
    /* What the failed ones were: not connected, reset, ended before the whole answer, or answered
     * with something else than 200. */
    uint64_t refused, reset, cut, wrong;
    /* Connections that had waited over a second for their answer when the time was up, or that had
     * none when the grace was over. */
    uint64_t stalled;
    uint64_t bytes;
    struct hist *latency;
};

static inline uint64_t now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A TCP socket, bound to the source address number `index` if the plan names sources. The caller
 * owns it. */
int load_socket(const struct plan *plan, unsigned index, int flags) WARN_UNUSED;

/* Keeps plan->connections busy until `until_ns`, each with one request at a time: over a new
 * connection for each when `reconnect`, else over the same one. The sum goes into `tally`. */
int load_saturate(const struct plan *plan, bool reconnect, uint64_t until_ns,
                  struct tally *tally) WARN_UNUSED;

/* One connection at a time, plan->count times: from connect() to the first byte. */
int load_first_byte(const struct plan *plan, struct tally *tally) WARN_UNUSED;

/* Opens silent connections, says so, and keeps them until standard input ends. */
int load_hold(const struct plan *plan) WARN_UNUSED;
