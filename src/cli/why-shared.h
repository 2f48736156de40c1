#pragma once
/* What berth itself knows about a port that it shares: the part of `berth why` that asks berthd. */

#include <stdint.h>

/* Prints which programs share the port, and for a URL or route as subject which of them gets it.
 * Prints nothing when no berthd answers or nobody shares the port. */
void why_shared_print(const char *subject, uint16_t port);
