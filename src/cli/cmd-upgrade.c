/* berth upgrade: the installed berthd takes the place of the running one. Shows both, and waits
 * until the old dispatch has finished what it had in hand. */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/daemon.h"

/* The longest that a connection may be undecided, and some more. */
#define RETIRE_MS 20000
#define LOOK_MS   50

static const char help[] =
    "usage: berth upgrade [--json]\n\n"
    "Puts the installed berthd and berth-dispatch in the place of the running ones. Ports, names,\n"
    "queues and programs are kept, and no connection is lost. When the new ones do not start, the\n"
    "running ones go on.\n";

/* How many replaced dispatches have connections in hand; -1 when berthd does not say. */
static long long retiring(void)
{
    char *text = NULL;
    if (cli_ask((const char *[]){"status", NULL}, -EBADF, NULL, &text) != CLI_OK)
        return -1;
    json_t *j = json_loads(text, 0, NULL);
    json_t *count = json_object_get(j, "retiring");
    long long n = count ? json_integer_value(count) : -1;
    json_decref(j);
    free(text);
    return n;
}

static void wait_retired(bool quiet)
{
    bool told = quiet;
    for (int waited = 0; waited < RETIRE_MS && retiring() > 0; waited += LOOK_MS) {
        if (!told && waited >= 1000)
            (void)puts("the old berth-dispatch finishes what it has in hand ...");
        told |= waited >= 1000;
        (void)fflush(stdout);
        (void)poll(NULL, 0, LOOK_MS);
    }
    if (!quiet && retiring() > 0)
        (void)puts("it has connections that wait for a busy program, and ends after them");
}

static void print(json_t *j)
{
    const char *from = "?", *to = "?";
    int pid = 0, before = 0, after = 0;
    (void)json_unpack(j, "{s:i, s:{s:s, s:i}, s:{s:s, s:i}}", "pid", &pid, "from", "version", &from,
                      "dispatch_pid", &before, "to", "version", &to, "dispatch_pid", &after);
    (void)printf("berthd          %s -> %s  pid %d\n", from, to, pid);
    (void)printf("berth-dispatch  %s -> %s  pid %d -> %d\n", from, to, before, after);
    (void)fflush(stdout);
}

int cmd_upgrade(int argc, char **argv)
{
    bool as_json;
    char *text = NULL;
    int status = cli_json_flag(argc, argv, help, &as_json);
    if (status == CLI_OK)
        status = cli_ask((const char *[]){"upgrade", NULL}, -EBADF, NULL, &text);
    if (status != CLI_OK)
        return status;
    json_t *j = json_loads(text, 0, NULL);
    if (!as_json)
        print(j);
    wait_retired(as_json);
    if (as_json)
        (void)puts(text);
    json_decref(j);
    free(text);
    return CLI_OK;
}
