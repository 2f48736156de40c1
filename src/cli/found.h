#pragma once
/* Asks for a peer, and waits, with complaints for people. */

#include "cli/peer.h"
#include "rendezvous/found.h"

/* NAME, KEY, NAME/SERVICE or KEY/SERVICE. CLI_OK, or complains. */
int found_target(const char *verb, const char *text, struct target *ret_target);
/* Asks the servers in turn until one knows it. CLI_OK, or complains. */
int found_ask(const char *verb, const struct target *t, const struct rendezvous *where,
              struct found *ret_found);
