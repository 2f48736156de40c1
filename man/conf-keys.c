/* Fills the manual page of the configuration: reads a page from standard input and writes it to
 * standard output, a line "@SECTION@" replaced by the keys of that section, from the table that the
 * reader uses. Run while berth is built. */
#include <stdio.h>
#include <string.h>

#include "conf/schema.h"
#include "conf/value.h"

/* scdoc takes these for its own marks. */
static void text_put(const char *text)
{
    for (; *text; text++) {
        if (strchr("*_\\<>#~", *text))
            (void)putchar('\\');
        (void)putchar(*text);
    }
}

/* What the prose of the page says of a type is not said again at each key. */
static const char *kind_words(const struct conf_key *k)
{
    switch (k->type) {
    case CONF_COUNT:
    case CONF_PERCENT:
    case CONF_RANGE:
    case CONF_SPAN:
    case CONF_FILES:
        return conf_ops(k->type)->expects;
    default:
        return NULL;
    }
}

static void choices_put(const struct conf_key *k)
{
    (void)printf(" One of");
    for (size_t i = 0; k->choices[i]; i++)
        (void)printf("%s *%s*", i ? "," : "", k->choices[i]);
    (void)putchar('.');
}

static void kind_put(const struct conf_key *k)
{
    const struct conf_ops *ops = conf_ops(k->type);
    const char *words = kind_words(k);
    if (k->choices)
        choices_put(k);
    if (words) {
        (void)printf(" W");
        text_put(words + 1);
        if (k->type == CONF_COUNT && k->max <= 65535)
            (void)printf(", %llu to %llu", (unsigned long long)k->min, (unsigned long long)k->max);
        (void)printf("%s%s%s.", k->zero ? ", or *" : "", k->zero ? k->zero : "",
                     k->zero ? "*" : "");
    } else if (k->zero) {
        (void)printf(" Or *%s*.", k->zero);
    }
    (void)printf("%s", ops->count && !ops->one_line ? " May be repeated." : "");
}

static const char *change_words(unsigned change)
{
    switch (change) {
    case CONF_CHANGED_PROCESS:
        return " A change replaces the workers.";
    case CONF_CHANGED_DAEMON:
        return " A change takes effect when berthd is started again.";
    default:
        return "";
    }
}

static void key_put(const struct conf_key *k)
{
    (void)printf("*");
    text_put(k->name);
    (void)printf("*");
    if (k->preset) {
        (void)printf(" (default: ");
        text_put(k->preset);
        (void)printf(")");
    }
    (void)printf("\n\t");
    (void)putchar(k->help[0] >= 'a' && k->help[0] <= 'z' ? k->help[0] - 'a' + 'A' : k->help[0]);
    text_put(k->help + 1);
    (void)printf(".");
    kind_put(k);
    (void)printf("%s\n\n", change_words(k->change));
}

static int section_put(const char *line)
{
    for (int i = 0; i < CONF_SECTIONS; i++) {
        const struct conf_schema *s = conf_schema(i);
        char mark[32];
        (void)snprintf(mark, sizeof mark, "@%s@\n", s->name);
        if (strcmp(line, mark) != 0)
            continue;
        for (size_t k = 0; k < s->count; k++)
            key_put(&s->keys[k]);
        return 1;
    }
    return 0;
}

int main(void)
{
    char line[4096];
    while (fgets(line, sizeof line, stdin))
        if (line[0] != '@' || !section_put(line))
            (void)fputs(line, stdout);
    return ferror(stdin) || fflush(stdout) != 0;
}
