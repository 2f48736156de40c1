/* The exec and posix_spawn families. A program may scrub the environment of what it executes and
 * pass a queue on all the same (nginx does for its binary upgrade): then the new program needs us,
 * and gets back what `berth run` had put there. And a program that we cannot be loaded into is
 * named, as its ports will not be shared. Runs after vfork(): the stack is all it writes to. */
#include <alloca.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "launch/elf.h"
#include "launch/preload/shim.h"

/* A larger environment is passed on as it is. */
#define ENVIRONMENT_MAX 1024

struct environment {
    char *vars[ENVIRONMENT_MAX + ENV_VARS_MAX + 1];
};

static bool is_same_var(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return strncmp(a, b, n) == 0 && b[n] == '=';
}

/* `var` is "NAME=" with or without a value. */
static bool has_var(char *const *vars, const char *var)
{
    for (; vars && *vars; vars++)
        if (is_same_var(var, *vars))
            return true;
    return false;
}

/* Will a queue outlive the exec? */
static bool passes_queue_on(void)
{
    struct queue_name name;
    for (int fd = hint_next(0); fd >= 0; fd = hint_next(fd + 1)) {
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0 && !(flags & FD_CLOEXEC) && queue_find(fd, &name))
            return true;
    }
    return false;
}

/* The environment to pass on: the program's own or, in `room`, that with our variables back. */
static char *const *environment_for(const struct env *env, char *const *vars,
                                    struct environment *room)
{
    bool complete = true;
    for (char *const *v = env->vars; *v; v++)
        complete = complete && has_var(vars, *v);
    if (complete || !passes_queue_on())
        return vars;
    size_t count = 0;
    for (; vars && vars[count]; count++) {
        if (count == ENVIRONMENT_MAX)
            return vars;
        room->vars[count] = vars[count];
    }
    for (char *const *v = env->vars; *v; v++)
        if (!has_var(vars, *v))
            room->vars[count++] = *v;
    room->vars[count] = NULL;
    return room->vars;
}

static const char *obstacle(const struct elf_facts *f)
{
    if (!f->is_elf)
        return NULL;
    if (f->is_privileged)
        return "runs with other privileges (setuid, setgid or capabilities)";
    if (f->is_foreign)
        return "is built for another kind of machine";
    if (f->is_static)
        return "is statically linked";
    if (f->is_go)
        return "is a Go program, which makes its system calls itself";
    return f->is_other_libc ? "uses another C library" : NULL;
}

/* Names the obstacle, if there is one. False when the program would not even start with us: another
 * C library does not load what was built for ours, and gives up. */
static bool is_loadable(const char *path)
{
    struct elf_facts facts;
    int err = elf_inspect(path, &facts);
    if (err == 0 && facts.is_script) {
        char interpreter[ELF_INTERPRETER_MAX];
        memcpy(interpreter, facts.interpreter, sizeof interpreter);
        err = elf_inspect(interpreter, &facts);
    }
    const char *what = err == 0 ? obstacle(&facts) : NULL;
    if (what)
        say("%s %s: its ports cannot be shared by preloading", path, what);
    return err < 0 || !facts.is_other_libc;
}

static char *const *without_preload(char *const *vars, struct environment *room)
{
    size_t count = 0;
    for (char *const *v = vars; *v; v++) {
        if (is_same_var("LD_PRELOAD=", *v))
            continue;
        if (count == ENVIRONMENT_MAX + ENV_VARS_MAX)
            return vars;
        room->vars[count++] = *v;
    }
    room->vars[count] = NULL;
    return room->vars;
}

/* Where execvp() will find the file. */
static bool path_search(const char *file, char ret_path[PATH_MAX])
{
    const char *dirs = getenv("PATH");
    if (strchr(file, '/') || !dirs)
        return snprintf(ret_path, PATH_MAX, "%s", file) < PATH_MAX;
    for (size_t n; *dirs; dirs += n + (dirs[n] == ':')) {
        n = strcspn(dirs, ":");
        int size = snprintf(ret_path, PATH_MAX, "%.*s/%s", (int)n, dirs, file);
        if (size < PATH_MAX && access(ret_path, X_OK) == 0)
            return true;
    }
    return false;
}

/* What every hook does first. Returns the environment to use. */
static char *const *prepare(const char *path, bool search, char *const *vars,
                            struct environment *room)
{
    const struct env *env = env_get();
    if (!env)
        return vars;
    int saved = errno;
    char found[PATH_MAX];
    vars = environment_for(env, vars, room);
    if (has_var(vars, "LD_PRELOAD=") && has_var(vars, "BERTH_CONTROL=") &&
        (!search || path_search(path, found)) && !is_loadable(search ? found : path))
        vars = without_preload(vars, room);
    errno = saved;
    return vars;
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
    struct environment room;
    return real()->execve(path, argv, prepare(path, false, envp, &room));
}

EXPORT int execv(const char *path, char *const argv[])
{
    return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
    struct environment room;
    return real()->execvpe(file, argv, prepare(file, true, envp, &room));
}

EXPORT int execvp(const char *file, char *const argv[])
{
    return execvpe(file, argv, environ);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
    struct environment room;
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return real()->fexecve(fd, argv, prepare(path, false, envp, &room));
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    struct environment room;
    return real()->posix_spawn(pid, path, actions, attr, argv, prepare(path, false, envp, &room));
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    struct environment room;
    return real()->posix_spawnp(pid, file, actions, attr, argv, prepare(file, true, envp, &room));
}

/* How many arguments follow the first, with the NULL that ends them. */
static size_t args_count(va_list args)
{
    size_t n = 1;
    while (va_arg(args, char *))
        n++;
    return n;
}

/* Fills argv and returns what stands behind its end: the environment, for execle(). */
static char *const *args_collect(char **argv, const char *first, va_list args, bool has_env)
{
    memcpy(argv++, &first, sizeof first);
    while ((*argv++ = va_arg(args, char *)))
        ;
    return has_env ? va_arg(args, char *const *) : environ;
}

EXPORT int execl(const char *path, const char *arg, ...)
{
    va_list args;
    va_start(args, arg);
    char **argv = alloca((1 + args_count(args)) * sizeof *argv);
    va_end(args);
    va_start(args, arg);
    char *const *envp = args_collect(argv, arg, args, false);
    va_end(args);
    return execve(path, argv, envp);
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
    va_list args;
    va_start(args, arg);
    char **argv = alloca((1 + args_count(args)) * sizeof *argv);
    va_end(args);
    va_start(args, arg);
    char *const *envp = args_collect(argv, arg, args, false);
    va_end(args);
    return execvpe(file, argv, envp);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
    va_list args;
    va_start(args, arg);
    char **argv = alloca((1 + args_count(args)) * sizeof *argv);
    va_end(args);
    va_start(args, arg);
    char *const *envp = args_collect(argv, arg, args, true);
    va_end(args);
    return execve(path, argv, envp);
}
