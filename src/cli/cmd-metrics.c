/* berth metrics: the page that Prometheus gets, for people and for collectors of text files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const char help[] =
    "usage: berth metrics\n"
    "\n"
    "Prints berthd's metrics as Prometheus gets them (text format 0.0.4) from the socket `metrics` "
    "in the\n"
    "runtime folder, or from the loopback address that the configuration names.\n";

int cmd_metrics(int argc, char **argv)
{
    char *text = NULL;
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        (void)fputs(help, stdout);
        return CLI_OK;
    }
    if (argc > 1)
        return cli_usage("metrics", "unexpected argument '%s'", argv[1]);
    int status = cli_ask((const char *[]){"metrics", NULL}, -EBADF, NULL, &text);
    if (status == CLI_OK)
        (void)fputs(text ? text : "", stdout);
    free(text);
    return status;
}
