#pragma once
/* The program that is about to be started: which file it is, and whether a library can be preloaded
 * into it. */

#include <stddef.h>

#include "base/fd.h"

#define PROGRAM_PATH_MAX   4096
#define PROGRAM_REASON_MAX 4400

/* Where a command is looked for. */
struct program_place {
    const char *path;      /* the variable PATH; NULL: it is not set */
    const char *directory; /* what a relative command is relative to; NULL: the current one */
};

/* The file that execvp() would take; the command itself when there is none. */
const char *program_find(const char *command, const struct program_place *place,
                         char buf[PROGRAM_PATH_MAX]);

/* 0 when its ports can be shared by preloading, also when there is no such file: starting it says
 * that better. -ENOEXEC when not, with a sentence that names the file and the reason. */
int program_check(const char *command, const struct program_place *place,
                  char ret_reason[PROGRAM_REASON_MAX]) WARN_UNUSED;
