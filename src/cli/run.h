#pragma once
/* What `berth run` was asked for. */

#include <stdbool.h>
#include <stddef.h>

#include "wire/appmsg.h"

#define RUN_SETTINGS_MAX  32
#define RUN_PUBLISHED_MAX 16
#define RUN_ALLOWED_MAX   32

struct run {
    const char *name;
    char name_buf[65];
    const char *routes[APPMSG_ROUTES_MAX];
    size_t route_count;
    /* Services of the session's peer, as routes peer://NAME:PORT, where the port may be left out.
     */
    char published[RUN_PUBLISHED_MAX][64];
    size_t published_count;
    const char *allowed[RUN_ALLOWED_MAX]; /* peers that may dial them */
    size_t allowed_count;
    const char *listens[APPMSG_LISTENS_MAX];
    size_t listen_count;
    char ports[256];
    bool proxy, queue;
    char folder_route[96];
    uint8_t instance[APPMSG_INSTANCE];
    char **command;

    /* A pool, when any is given. */
    const char *workers;
    const char *settings[RUN_SETTINGS_MAX]; /* KEY=VALUE */
    size_t setting_count;
    bool detach;
};

/* Has berthd start the program as a pool, and stays with it unless told to detach. The exit status.
 */
int run_pool(const struct run *r);

/* Tells berth-peer what is published (run-publish.c). CLI_OK, or complains. */
int run_publish(const struct run *r);
