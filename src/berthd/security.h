#pragma once
/* What is in force, as the kernel shows it, for `berth status --security`. */

#include <jansson.h>

#include "berthd/server.h"

/* JSON text, malloc()ed; NULL when memory is short. */
char *security_report(struct server *s);
/* One process: who it is, what it may, where it is. */
json_t *security_process(const char *name, pid_t pid);
