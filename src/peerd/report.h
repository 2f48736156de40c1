#pragma once
/* What the verbs that read get: one JSON document each, malloc()ed. */

#include "peerd/dial.h"

struct peerd;

char *report_peers(struct peerd *p);
char *report_published(struct peerd *p);
char *report_status(struct peerd *p);
/* Our own side: how our NAT behaves, and whether the router maps our ports. */
char *report_network(struct peerd *p);
/* What was done for a dial, what the session is like, and what would make it better. */
char *report_why(struct peerd *p, const struct dial *d, int err, const char *sentence);
