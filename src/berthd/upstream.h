#pragma once
/* Applications whose connections are passed on to an address: their worker is berth-upstream. */

#include <stdbool.h>

#include "berthd/server.h"
#include "conf/conf.h"

#define UPSTREAM_ARGS_MAX 8

/* The command line of such a worker. */
struct upstream_command {
    char path[4096];
    char *argv[UPSTREAM_ARGS_MAX]; /* point into it and into the definition; NULL-terminated */
};

/* Whether what a peer dials there begins with a PROXY header: who it is goes on to the address. */
bool upstream_wants_header(const struct conf_app *c);
/* Nothing for an application with a command. -ENOENT with a reason. */
int upstream_command_make(const struct conf_app *c, struct upstream_command *ret_command,
                          char reason[REASON_MAX]) WARN_UNUSED;
