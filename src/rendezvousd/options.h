#pragma once
/* The options of berth-rendezvous. */

#include "rendezvousd/thread.h"

struct options {
    struct addr listens[SOCKETS_MAX]; /* those for STUN last */
    size_t listen_count, stun_count;
    struct addr stun_other; /* without a family: none */
    const char *state;
    size_t threads, peers_max, names_max;
    uint32_t lease_s, rate;
    struct relay_limits relay;
    bool show_key;
    struct redis_target redis; /* without a host: none */
    struct addr advertised;    /* without a family: not known */
};

/* 0: go on; 1: all is done; -EINVAL: it was complained about. */
int options_read(int argc, char **argv, struct options *o) WARN_UNUSED;
