/* berth start, stop, restart and reload: what people ask of pools, and of berthd as a whole. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/pool-wait.h"

static const char start_help[] = "usage: berth start [--no-wait] NAME\n\nStarts the workers of an "
                                 "application of berthd's, also of one that was paused because it\n"
                                 "failed too often.\n\n"
                                 "  --no-wait   return when berthd has understood\n";
static const char restart_help[] =
    "usage: berth restart [--no-wait] NAME\n\n"
    "Replaces each worker by a new one. The new one is ready before the old one gets its last\n"
    "connection; the old one ends when its connections are closed. Nothing is dropped.\n\n"
    "  --no-wait   return when berthd has understood\n";
static const char stop_help[] =
    "usage: berth stop [--no-wait] [NAME]\n\n"
    "With a NAME: ends the workers of that application when they have finished; until it is "
    "started\n"
    "again its names answer that it is stopped. One from `berth run` goes altogether.\n"
    "Without: ends this user's berthd, with the workers that it started, and frees its ports.\n"
    "Programs of `berth run` go on running; they are reached again as soon as the next `berth "
    "run`\n"
    "has started a berthd.\n\n"
    "  --no-wait   return when berthd has understood\n";
static const char reload_help[] =
    "usage: berth reload [--dry-run]\n\n"
    "Reads the configuration again and makes what has changed. With a mistake anywhere nothing\n"
    "changes. --dry-run only shows the differences.\n";

struct request {
    const char *verb, *help;
    const char *name;
    bool no_wait, dry_run;
};

static int request_read(int argc, char **argv, struct request *r)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(r->help, stdout);
            exit(CLI_OK);
        }
        if (strcmp(argv[i], "--no-wait") == 0 && r->help != reload_help)
            r->no_wait = true;
        else if (strcmp(argv[i], "--dry-run") == 0 && r->help == reload_help)
            r->dry_run = true;
        else if (argv[i][0] == '-' || r->name || r->help == reload_help)
            return cli_usage(argv[0], "unexpected argument '%s'", argv[i]);
        else
            r->name = argv[i];
    }
    return CLI_OK;
}

static int pool_ask(int argc, char **argv, struct request *r, enum pool_wait what)
{
    int status = request_read(argc, argv, r);
    if (status == CLI_OK && !r->name)
        status = cli_usage(argv[0], "which application? `berth ls` shows them");
    char *text = NULL;
    long long failures = status == CLI_OK && !r->no_wait ? pool_failures(r->name) : 0;
    if (status == CLI_OK)
        status = cli_ask((const char *[]){r->verb, r->name, NULL}, -EBADF, NULL, &text);
    free(text);
    return status != CLI_OK || r->no_wait ? status : pool_wait(r->name, what, failures);
}

int cmd_start(int argc, char **argv)
{
    return pool_ask(argc, argv, &(struct request){.verb = "start", .help = start_help},
                    POOL_WAIT_READY);
}

int cmd_restart(int argc, char **argv)
{
    return pool_ask(argc, argv, &(struct request){.verb = "restart", .help = restart_help},
                    POOL_WAIT_REPLACED);
}

static int daemon_stop(void)
{
    CLEANUP_FD int fd = daemon_connect(false);
    if (fd == -ENOENT)
        return CLI_OK;
    if (fd < 0)
        return cli_fail("stop", "berthd cannot be reached: %s", strerror(-fd));
    char *text = NULL, byte;
    int r = daemon_ask(fd, &(struct appmsg){.type = APPMSG_STOP}, &text);
    if (r < 0)
        r = cli_fail("stop", "%s", text ? text : strerror(-r));
    /* Gone when it has let go of us. */
    while (r == 0 && read(fd, &byte, 1) > 0)
        ;
    free(text);
    return r;
}

int cmd_stop(int argc, char **argv)
{
    struct request r = {.verb = "halt", .help = stop_help};
    int status = request_read(argc, argv, &r);
    if (status != CLI_OK)
        return status;
    return r.name ? pool_ask(argc, argv, &(struct request){.verb = "halt", .help = stop_help},
                             POOL_WAIT_GONE)
                  : daemon_stop();
}

int cmd_reload(int argc, char **argv)
{
    struct request r = {.verb = "reload", .help = reload_help};
    char *text = NULL;
    int status = request_read(argc, argv, &r);
    if (status == CLI_OK)
        status = cli_ask((const char *[]){"reload", r.dry_run ? "--dry-run" : NULL, NULL}, -EBADF,
                         NULL, &text);
    if (status == CLI_OK)
        (void)fputs(text && *text ? text : "nothing has changed\n", stdout);
    free(text);
    return status;
}
