/* Help for the verbs: colours and the form of complaints. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
