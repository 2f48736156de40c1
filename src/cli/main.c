/* The command line: finds the verb in a table and runs it. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/daemon.h"

#ifndef BERTH_VERSION
#define BERTH_VERSION "0"
#endif

static const struct cli_verb verbs[] = {
    {"run", "[--as ROUTE] -- PROGRAM", "starts a program and shares the ports it listens on",
     cmd_run},
    {"ls", "", "lists who is served under which name", cmd_ls},
    {"why", "PORT|ADDRESS|URL|PID", "says who holds a port, and how to mend that", cmd_why},
    {"reserve", "ROUTE --user USER", "makes a name a user's own", cmd_reserve},
    {"status", "", "shows berthd's processes and counters", cmd_status},
    {"stop", "", "ends berthd and frees its ports", cmd_stop},
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

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Insertions, deletions and replacements between two words; long words are cut. */
static size_t distance(const char *a, const char *b)
{
    enum { MAX = 24 };
    size_t row[MAX + 1], nb = strnlen(b, MAX);
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] && i <= MAX; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[nb];
}

static int verb_unknown(const char *name)
{
    const struct cli_verb *best = NULL;
    size_t least = 3; /* farther than two letters is a guess, not a slip */
    for (size_t i = 0; i < VERBS; i++) {
        size_t d = distance(name, verbs[i].name);
        if (d < least && d < strlen(verbs[i].name)) {
            least = d;
            best = &verbs[i];
        }
    }
    if (best)
        return cli_usage(NULL, "there is no verb `%s`; did you mean `%s`?", name, best->name);
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
