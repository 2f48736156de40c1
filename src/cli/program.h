#pragma once
/* The program that `berth run` is about to become. */

#include "launch/environment.h"

/* Claims the queue of an application without a port of its own, and leaves it at descriptor 3 in
 * the way of LISTEN_FDS. Consumes the connection to berthd, on which the application was
 * introduced. */
int program_queue_consume(int control, const char *route, struct environment *env);
