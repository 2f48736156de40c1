/* berth allow and deny: who may dial what is published. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/peerd.h"

static const char help[] =
    "usage: berth allow PEER|anyone [SERVICE...]\n"
    "       berth deny PEER|anyone [SERVICE...]\n"
    "\n"
    "Lets a peer, by name or key, dial these services, or all that are published now and later.\n"
    "`deny` takes that back; sessions of a peer that may dial nothing any more are ended.\n"
    "`berth publish` without arguments shows who is allowed.\n"
    "\n"
    "A name stands for the key that it has now; who has no pinned key is looked up.\n"
    "\n"
    "  --rendezvous HOST:PORT  where to look a name up (else $BERTH_RENDEZVOUS)\n"
    "\n"
    "examples:\n"
    "  berth allow laptop              everything\n"
    "  berth allow laptop web ssh      these two\n"
    "  berth deny laptop\n";

/* One question for each service; "*" is all of them. */
static int ask(const char *verb, const char *who, const char *service, struct rendezvous *where)
{
    struct peerd_ask a;
    struct key key;
    char text[KEY_TEXT_MAX], *answer = NULL;
    int status = CLI_OK;
    bool all = strcmp(service, "*") == 0, adds = strcmp(verb, "allow") == 0;
    peerd_begin(&a, verb);
    if (!all || adds)
        peerd_arg(&a, "service", service);
    if (strcmp(who, "anyone") == 0) {
        peerd_arg(&a, "anyone", "1");
    } else if (adds) {
        status = peerd_allow_arg(verb, &a, who, where);
    } else {
        status = peerd_key_of(verb, who, where, &key);
        if (status == CLI_OK)
            peerd_arg(&a, "key", key_format(&key, text));
    }
    if (status == CLI_OK)
        status = peerd_run(verb, &a, true, &answer);
    if (status == CLI_OK && answer)
        peerd_told(verb, answer);
    free(answer);
    peerd_end(&a);
    return status;
}

struct asked {
    const char *verb;
    struct rendezvous where;
};

static int option_take(void *ctx, int c)
{
    struct asked *a = ctx;
    (void)c; /* there is but one */
    return peer_server_add(a->verb, &a->where, optarg);
}

static int change(int argc, char **argv)
{
    static const struct option options[] = {{"rendezvous", required_argument, NULL, 'r'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *verb = argv[0];
    struct asked a = {.verb = verb};
    const struct cli_options taken = {verb, help, "", options};
    int status = cli_options(&taken, argc, argv, option_take, &a);
    if (status == CLI_OK && optind == argc)
        status = cli_usage(verb, "whom? a NAME or KEY");
    if (status != CLI_OK || peer_start(verb) != CLI_OK)
        return status != CLI_OK ? status : CLI_TROUBLE;
    const char *who = argv[optind++];
    bool anyone = strcmp(who, "anyone") == 0;
    if (optind == argc && anyone && strcmp(verb, "allow") == 0)
        return cli_usage(verb, "anyone may dial which SERVICE?");
    if (optind == argc)
        return ask(verb, who, "*", &a.where);
    for (; status == CLI_OK && optind < argc; optind++)
        status = ask(verb, who, argv[optind], &a.where);
    return status;
}

int cmd_allow(int argc, char **argv)
{
    return change(argc, argv);
}

int cmd_deny(int argc, char **argv)
{
    return change(argc, argv);
}
