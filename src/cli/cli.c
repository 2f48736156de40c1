/* Help for the verbs: colours and the form of complaints. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/daemon.h"

bool cli_color(FILE *f)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return !(no && no[0]) && term && strcmp(term, "dumb") != 0 && isatty(fileno(f));
}

const char *cli_style(FILE *f, enum cli_style style)
{
    static const char *const sequences[STYLE_COUNT] = {"\033[0m", "\033[1m", "\033[2m", "\033[32m",
                                                       "\033[31m"};
    return cli_color(f) ? sequences[style] : "";
}

static void complain(const char *verb, const char *format, va_list args)
{
    (void)fprintf(stderr, "berth%s%s: ", verb ? " " : "", verb ? verb : "");
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
}

int cli_usage(const char *verb, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(verb, format, args);
    va_end(args);
    (void)fprintf(stderr, "try `berth %s%s--help`\n", verb ? verb : "", verb ? " " : "");
    return CLI_USAGE;
}

int cli_fail(const char *verb, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(verb, format, args);
    va_end(args);
    return CLI_TROUBLE;
}

int cli_options(const struct cli_options *o, int argc, char **argv,
                int (*take)(void *ctx, int option), void *ctx)
{
    int status = CLI_OK;
    opterr = 0;
    for (int c; status == CLI_OK && (c = getopt_long(argc, argv, o->letters, o->list, NULL)) != -1;)
        if (c == '?') {
            status = cli_usage(o->verb, "'%s' is no option, or lacks its value", argv[optind - 1]);
        } else if (c == 'h') {
            (void)fputs(o->help, stdout);
            exit(CLI_OK);
        } else {
            status = take(ctx, c);
        }
    return status;
}

int cli_json_flag(int argc, char **argv, const char *text, bool *ret_json)
{
    *ret_json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(text, stdout);
            exit(CLI_OK);
        }
        if (strcmp(argv[i], "--json") != 0)
            return cli_usage(argv[0], "unexpected argument '%s'", argv[i]);
        *ret_json = true;
    }
    return CLI_OK;
}

int cli_ask(const char *const argv[], int send_fd, int *ret_fd, char **ret_text)
{
    const char *verb = strcmp(argv[0], "list") == 0 ? "ls" : argv[0];
    CLEANUP_FD int fd = daemon_connect(false);
    if (fd == -ENOENT)
        return cli_fail(verb, "no berthd runs: `berth run -- PROGRAM` starts one");
    if (fd < 0)
        return cli_fail(verb, "berthd cannot be reached: %s", strerror(-fd));
    int r = daemon_command(fd, argv, send_fd, ret_fd, ret_text);
    if (r == 0)
        return CLI_OK;
    int status = cli_fail(verb, "%s", *ret_text ? *ret_text : strerror(-r));
    free(*ret_text);
    *ret_text = NULL;
    return status;
}
