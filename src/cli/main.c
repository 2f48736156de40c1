/* The command line: finds the verb in a table and runs it. */
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "cli/cli.h"
#include "cli/daemon.h"

#ifndef BERTH_VERSION
#define BERTH_VERSION "0"
#endif

static const struct cli_verb verbs[] = {
    {"run", "[--as ROUTE] -- PROGRAM", "starts a program and shares the ports it listens on",
     cmd_run},
    {"route", "add|ls|delete", "passes a name's connections on to an address", cmd_route},
    {"ls", "", "lists who is served under which name", cmd_ls},
    {"logs", "NAME [-f] [-n LINES]", "shows what an application wrote", cmd_logs},
    {"why", "PORT|ADDRESS|URL|PID", "says who holds a port, and how to mend that", cmd_why},
    {"reserve", "ROUTE --user USER", "makes a name a user's own", cmd_reserve},
    {"top", "[--once]", "shows all applications, live", cmd_top},
    {"metrics", "", "prints berthd's metrics for Prometheus", cmd_metrics},
    {"status", "", "shows berthd's processes and counters", cmd_status},
    {"start", "NAME", "starts the workers of an application", cmd_start},
    {"stop", "[NAME]", "ends an application's workers, or berthd itself", cmd_stop},
    {"restart", "NAME", "replaces an application's workers, dropping nothing", cmd_restart},
    {"check", "[REQUEST...]", "finds mistakes in the configuration, explains who gets what",
     cmd_check},
    {"config", "[--defaults]", "shows the configuration, or every key there is", cmd_config},
    {"reload", "[--dry-run]", "reads the configuration again", cmd_reload},
    {"upgrade", "", "puts the installed berthd in the place of the running one", cmd_upgrade},
    {"publish", "SERVICE --to ADDRESS", "lets other peers dial a service", cmd_publish},
    {"unpublish", "SERVICE", "takes that back", cmd_unpublish},
    {"allow", "PEER [SERVICE...]", "lets a peer dial what is published", cmd_allow},
    {"deny", "PEER [SERVICE...]", "takes that back", cmd_deny},
    {"dial", "PEER/SERVICE", "connects standard input and output with a peer's service", cmd_dial},
    {"forward", "[PORT PEER/SERVICE]", "makes a peer's service a local port", cmd_forward},
    {"key", "[show|new]", "makes and shows this user's key", cmd_key},
    {"name", "claim|release|list NAME", "names at a rendezvous server", cmd_name},
    {"register", "[--service NAME=PORT]", "keeps this user's record at a rendezvous server",
     cmd_register},
    {"lookup", "NAME|KEY", "asks a rendezvous server for a peer's record", cmd_lookup},
    {"peers", "[accept|forget]", "lists known peers and their keys", cmd_peers},
};
#define VERBS (sizeof verbs / sizeof *verbs)

static void help_print(FILE *f)
{
    (void)fprintf(f, "usage: berth VERB [ARGUMENT...]\n\nMany programs, one port.\n\n");
    for (size_t i = 0; i < VERBS; i++)
        (void)fprintf(f, "  %s%-8s%s %-24s %s\n", cli_style(f, STYLE_BOLD), verbs[i].name,
                      cli_style(f, STYLE_NONE), verbs[i].args, verbs[i].summary);
    (void)fprintf(f, "\n  berth help VERB, or berth VERB --help, shows options and examples\n"
                     "  berth --system VERB asks the system's berthd, not your own\n"
                     "  berth --version\n");
}

static const struct cli_verb *verb_find(const char *name)
{
    for (size_t i = 0; i < VERBS; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

static int verb_unknown(const char *name)
{
    const char *names[VERBS + 1] = {NULL};
    for (size_t i = 0; i < VERBS; i++)
        names[i] = verbs[i].name;
    const char *near = nearest_word(name, names);
    if (near)
        return cli_usage(NULL, "there is no verb `%s`; did you mean `%s`?", name, near);
    return cli_usage(NULL, "there is no verb `%s`", name);
}

static int help_run(int argc, char **argv)
{
    if (argc < 3) {
        help_print(stdout);
        return CLI_OK;
    }
    const struct cli_verb *verb = verb_find(argv[2]);
    char *help[] = {argv[2], (char[]){"--help"}, NULL};
    return verb ? verb->run(2, help) : verb_unknown(argv[2]);
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        help_print(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        (void)printf("berth %s\n", BERTH_VERSION);
        return CLI_OK;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return help_run(argc, argv);
    const struct cli_verb *verb = verb_find(name);
    return verb ? verb->run(argc - 1, argv + 1) : verb_unknown(name);
}

int main(int argc, char **argv)
{
    bool system = argc > 1 && strcmp(argv[1], "--system") == 0;
    if (!system)
        return run(argc, argv);
    daemon_use_system();
    argv[1] = argv[0];
    return run(argc - 1, argv + 1);
}
