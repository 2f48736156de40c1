#pragma once
/* `berth why PEER[/SERVICE]`. */

#include <stdbool.h>

/* Whether this is about a peer rather than a port, an address or a process. */
bool why_is_peer(const char *subject);
/* Connects, and tells how. The exit status: 0 when it works. */
int why_peer(const char *subject, bool as_json);
/* Of this network: the own NAT, and what the router does for it. */
int why_network(bool as_json);
