#pragma once
/* The text with which people name a rendezvous server. */

#include <stdbool.h>

#include "base/fd.h"

#define SERVER_HOST_MAX 256
#define SERVER_PORT     "3478"

struct server_name {
    char host[SERVER_HOST_MAX]; /* a name or an address, without brackets */
    char port[6];               /* SERVER_PORT when none was given */
    bool port_given;
};

/* "HOST", "HOST:PORT", "[ADDRESS]:PORT". -EINVAL. */
int server_name_parse(const char *text, struct server_name *ret_name) WARN_UNUSED;
