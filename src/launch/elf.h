#pragma once
/* What kind of program a file is: can a library be preloaded into it, and does it call libc? */

#include <stdbool.h>

#include "base/fd.h"

#define ELF_INTERPRETER_MAX 256

struct elf_facts {
    bool is_elf;
    bool is_script;                        /* starts with "#!" */
    char interpreter[ELF_INTERPRETER_MAX]; /* the script's, or the loader of an ELF; or "" */
    bool is_static;                        /* no loader: nothing can be preloaded */
    bool is_go;                            /* makes system calls without libc */
    bool is_privileged; /* executing it would change our user or group, or give capabilities: the
                           loader then ignores LD_PRELOAD */
    bool is_foreign;    /* another word size, byte order or machine than ours */
    bool is_other_libc; /* its loader is not the one of our C library */
};

/* Reads the beginning and the tables of the file. 0, also for a file that is neither ELF nor script
 * (all false), or a negative errno when it cannot be read. Takes no heap. */
int elf_inspect(const char *path, struct elf_facts *ret_facts) WARN_UNUSED;
