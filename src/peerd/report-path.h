#pragma once
/* The parts of reports that tell of NATs, ports that routers map, attempts, and what would help. */

#include <jansson.h>

struct peerd;
struct remote;

/* Our own side; and what a peer has said of its own, NULL when it has said nothing. */
json_t *report_here(struct peerd *p);
json_t *report_there(struct remote *r);
/* The last ones, the newest first. */
json_t *report_attempts(struct remote *r);
/* With a peer, or (NULL) of our own side. */
json_t *report_advice(struct peerd *p, struct remote *r);
