/* berth run --workers: the program becomes a pool of berthd's, defined by the same keys as in the
 * configuration. This process shows its output and ends it on Ctrl-C. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/pool-wait.h"
#include "cli/run.h"
#include "conf/conf.h"

static void key_write(FILE *f, const char *key, const char *value)
{
    (void)fprintf(f, "%s = ", key);
    conf_word_format(value, f);
    (void)fputc('\n', f);
}

/* The [app] section, a NUL, and this process's environment. */
static int definition_write(const struct run *r, FILE *f)
{
    char folder[4096];
    (void)fprintf(f, "[app %s]\n", r->name);
    for (size_t i = 0; i < r->route_count; i++)
        (void)fprintf(f, "route = %s\n", r->routes[i]);
    for (size_t i = 0; i < r->listen_count; i++)
        (void)fprintf(f, "listen = %s\n", r->listens[i]);
    (void)fprintf(f, "command =");
    for (char **word = r->command; *word; word++) {
        (void)fputc(' ', f);
        conf_word_format(*word, f);
    }
    (void)fputc('\n', f);
    if (getcwd(folder, sizeof folder))
        key_write(f, "directory", folder);
    if (r->ports[0])
        (void)fprintf(f, "port = %s\n", r->ports);
    if (r->proxy)
        (void)fprintf(f, "proxy = yes\n");
    if (r->workers)
        (void)fprintf(f, "workers = %s\n", r->workers);
    bool start_given = false;
    for (size_t i = 0; i < r->setting_count; i++) {
        start_given |= strncmp(r->settings[i], "start", 5) == 0;
        (void)fprintf(f, "%s\n", r->settings[i]);
    }
    /* Somebody who starts a program wants it to run. */
    if (!start_given)
        (void)fprintf(f, "start = always\n");
    (void)fputc(0, f);
    for (char **e = environ; *e; e++)
        (void)fwrite(*e, strlen(*e) + 1, 1, f);
    return ferror(f) ? -EIO : 0;
}

static int definition_fd(const struct run *r)
{
    CLEANUP_FD int fd = memfd_create("berth-run", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    FILE *f = copy < 0 ? NULL : fdopen(copy, "w");
    if (!f) {
        (void)fd_close(copy);
        return -ENOMEM;
    }
    int status = definition_write(r, f);
    if (fclose(f) != 0 || status < 0)
        return -EIO;
    return fd_take(&fd);
}

static int introduce(const struct run *r)
{
    CLEANUP_FD int fd = daemon_connect(true);
    if (fd < 0)
        return cli_fail("run", "berthd cannot be started: %s; its log is beside its socket",
                        strerror(-fd));
    CLEANUP_FD int definition = definition_fd(r);
    if (definition < 0)
        return cli_fail("run", "no memory");
    char *text = NULL;
    int err = daemon_command(fd, (const char *[]){"run", NULL}, definition, NULL, &text);
    if (err < 0)
        (void)cli_fail("run", "%s", text ? text : strerror(-err));
    free(text);
    return err < 0 ? CLI_USAGE : CLI_OK;
}

/* The log, shown by a child until the pool is to end. */
static pid_t log_show(const struct run *r)
{
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {(char[]){"logs"}, (char[]){"-f"}, (char *)r->name, NULL};
        _exit(cmd_logs(3, argv));
    }
    return pid;
}

static void end_wait(void)
{
    sigset_t set;
    int signal;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigwait(&set, &signal);
}

static int stay(const struct run *r)
{
    sigset_t set, old;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD);
    pid_t child = log_show(r);
    (void)sigprocmask(SIG_BLOCK, &set, &old);
    end_wait();
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    if (child > 0) {
        (void)kill(child, SIGTERM);
        (void)waitpid(child, NULL, 0);
    }
    char *text = NULL;
    int status = cli_ask((const char *[]){"halt", r->name, NULL}, -EBADF, NULL, &text);
    free(text);
    return status;
}

int run_pool(const struct run *r)
{
    /* One of this name that was there before is none of ours. */
    int status = introduce(r);
    if (status != CLI_OK)
        return status;
    status = pool_wait(r->name, POOL_WAIT_READY, 0);
    if (status == CLI_OK && r->detach) {
        (void)fprintf(stderr,
                      "%s is set up; `berth logs %s` shows its output, `berth stop %s` ends it\n",
                      r->name, r->name, r->name);
        return CLI_OK;
    }
    if (status == CLI_OK)
        return stay(r);
    /* What it said before it went is mostly the reason. */
    char *argv[] = {(char[]){"logs"}, (char[]){"-n"}, (char[]){"10"}, (char *)r->name, NULL},
         *text = NULL;
    (void)cmd_logs(4, argv);
    (void)cli_ask((const char *[]){"halt", r->name, NULL}, -EBADF, NULL, &text);
    free(text);
    return status;
}
