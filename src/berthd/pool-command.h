#pragma once
/* Verbs about pools, for the table in command.c. The first argument is the application's name. */

#include "berthd/command.h"

int command_start(struct server *s, struct command_ask *ask, struct command_answer *answer);
/* Its workers end; it stays until it is started, unless it came from `berth run`. */
int command_halt(struct server *s, struct command_ask *ask, struct command_answer *answer);
int command_restart(struct server *s, struct command_ask *ask, struct command_answer *answer);
/* "--dry-run": only says what would change. */
int command_reload(struct server *s, struct command_ask *ask, struct command_answer *answer);
/* The descriptor is a file with the text of one [app], a NUL, and "NAME=value" each with a NUL. */
int command_run_pool(struct server *s, struct command_ask *ask, struct command_answer *answer);
