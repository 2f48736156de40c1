/* berth status and berth stop: berthd itself. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/daemon.h"

static const char status_help[] =
    "usage: berth status [--json]\n\nShows the processes and counters of this user's berthd.\n";
static const char stop_help[] = "usage: berth stop\n\n"
                                "Ends this user's berthd and frees its ports. Programs go on "
                                "running; they are reached again as\n"
                                "soon as the next `berth run` has started a berthd.\n";

static void status_print(const json_t *status)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)status, key, value)(void)
        printf("%-14s %lld\n", key, (long long)json_integer_value(value));
}

int cmd_status(int argc, char **argv)
{
    bool as_json;
    char *text = NULL;
    int status = cli_json_flag(argc, argv, status_help, &as_json);
    if (status == CLI_OK)
        status = cli_ask((const char *[]){"status", NULL}, -EBADF, NULL, &text);
    if (status != CLI_OK)
        return status;
    json_t *j = json_loads(text, 0, NULL);
    if (as_json)
        (void)puts(text);
    else
        status_print(j);
    json_decref(j);
    free(text);
    return CLI_OK;
}

int cmd_stop(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        (void)fputs(stop_help, stdout);
        return CLI_OK;
    }
    if (argc > 1)
        return cli_usage("stop", "unexpected argument '%s'", argv[1]);
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
