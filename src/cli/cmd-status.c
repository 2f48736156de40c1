/* berth status: berthd itself. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/daemon.h"

static const char status_help[] =
    "usage: berth status [--json]\n\nShows the processes and counters of this user's berthd.\n";
static void status_print(const json_t *status)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)status, key, value)
    {
        char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
        (void)printf("%-14s %s\n", key, text ? text : json_string_value(value));
        free(text);
    }
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
    if (!j)
        status = cli_fail("status", "berthd's answer makes no sense: is it of another version?");
    else if (as_json)
        (void)puts(text);
    else
        status_print(j);
    json_decref(j);
    free(text);
    return status;
}
