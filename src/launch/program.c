/* Looks at a program before it is started. A command comes in; the file that it stands for, or the
 * reason why nothing can be preloaded into that, goes out. */
#include "launch/program.h"

#include <stdio.h>
#include <string.h>

#include "launch/elf.h"

/* Where execvp() looks when PATH is not set. */
#define PATH_UNSET "/bin:/usr/bin"

/* A path as seen from the directory; -ENAMETOOLONG. */
static int path_from(const char *directory, const char *path, char buf[PROGRAM_PATH_MAX])
{
    bool below = directory && *path != '/';
    int n =
        snprintf(buf, PROGRAM_PATH_MAX, "%s%s%s", below ? directory : "", below ? "/" : "", path);
    return n >= PROGRAM_PATH_MAX ? -ENAMETOOLONG : 0;
}

const char *program_find(const char *command, const struct program_place *place,
                         char buf[PROGRAM_PATH_MAX])
{
    if (strchr(command, '/'))
        return path_from(place->directory, command, buf) < 0 ? command : buf;
    for (const char *p = place->path ? place->path : PATH_UNSET; *p;) {
        char entry[PROGRAM_PATH_MAX];
        size_t n = strcspn(p, ":");
        int len = snprintf(entry, sizeof entry, "%.*s/%s", (int)n, p, command);
        if (len > 0 && (size_t)len < sizeof entry && path_from(place->directory, entry, buf) == 0 &&
            access(buf, X_OK) == 0)
            return buf;
        p += n + (p[n] == ':');
    }
    return command;
}

static const char *obstacle(const struct elf_facts *f)
{
    if (f->is_static)
        return "is statically linked: nothing can be preloaded into it";
    if (f->is_go)
        return "is a Go program, which calls the kernel without libc";
    if (f->is_privileged)
        return "runs with other privileges than yours (setuid, setgid or file capabilities), where "
               "the loader refuses to preload";
    if (f->is_foreign)
        return "is made for another kind of machine";
    return f->is_other_libc ? "uses another C library than berth" : NULL;
}

int program_check(const char *command, const struct program_place *place,
                  char ret_reason[PROGRAM_REASON_MAX])
{
    char buf[PROGRAM_PATH_MAX];
    struct elf_facts facts;
    const char *path = program_find(command, place, buf);
    if (elf_inspect(path, &facts) < 0)
        return 0;
    if (facts.is_script && facts.interpreter[0]) {
        char interpreter[ELF_INTERPRETER_MAX];
        memcpy(interpreter, facts.interpreter, sizeof interpreter);
        if (elf_inspect(interpreter, &facts) < 0)
            return 0;
    }
    const char *why = obstacle(&facts);
    if (!why)
        return 0;
    (void)snprintf(ret_reason, PROGRAM_REASON_MAX, "%s %s, so its ports cannot be shared this way",
                   path, why);
    return -ENOEXEC;
}
