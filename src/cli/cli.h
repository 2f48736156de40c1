#pragma once
/* What every verb of the command line needs. A verb is one file, cmd-VERB.c, with one function. */

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>

/* Exit codes of every verb. */
enum { CLI_OK = 0, CLI_TROUBLE = 1, CLI_USAGE = 2 };

struct cli_verb {
    const char *name, *args, *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the verb */
};

int cmd_allow(int argc, char **argv);
int cmd_deny(int argc, char **argv);
int cmd_dial(int argc, char **argv);
int cmd_forward(int argc, char **argv);
int cmd_publish(int argc, char **argv);
int cmd_unpublish(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_reload(int argc, char **argv);
int cmd_reserve(int argc, char **argv);
int cmd_restart(int argc, char **argv);
int cmd_metrics(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_lookup(int argc, char **argv);
int cmd_name(int argc, char **argv);
int cmd_peers(int argc, char **argv);
int cmd_register(int argc, char **argv);
int cmd_route(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_start(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_upgrade(int argc, char **argv);
int cmd_why(int argc, char **argv);

/* What a verb takes: `--help` is 'h' in the list. */
struct cli_options {
    const char *verb, *help;
    const char *letters; /* as for getopt() */
    const struct option *list;
};
/* Gives each option that getopt_long() finds, with its value in `optarg`, to `take`, until one is
 * refused. CLI_OK or the exit status; what is no option begins at `optind`. `--help` shows the help
 * and ends the process. */
int cli_options(const struct cli_options *o, int argc, char **argv,
                int (*take)(void *ctx, int option), void *ctx);
/* For verbs that read: takes --json and --help, refuses all else. CLI_OK or the exit status. */
int cli_json_flag(int argc, char **argv, const char *help, bool *ret_json);
/* Runs a verb of berthd, argv[0], as daemon_command() does, with a complaint when that fails.
 * CLI_OK and the text, to be free()d, or the exit status. */
int cli_ask(const char *const argv[], int send_fd, int *ret_fd, char **ret_text);

/* Colours: only on a terminal that can show them, and never when NO_COLOR is set. */
enum cli_style { STYLE_NONE, STYLE_BOLD, STYLE_DIM, STYLE_GOOD, STYLE_BAD, STYLE_COUNT };
bool cli_color(FILE *f);
/* The escape sequence that begins a style (STYLE_NONE ends it), or "" without colours. */
const char *cli_style(FILE *f, enum cli_style style);

/* Prints "berth VERB: message" and where help is, to standard error. Returns CLI_USAGE. */
int cli_usage(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints "berth VERB: message" to standard error. Returns CLI_TROUBLE. */
int cli_fail(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
