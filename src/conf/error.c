/* The list of errors: it owns copies of all texts. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "conf/reader.h"

static void error_done(struct conf_error *e)
{
    free(e->file);
    free(e->section);
    free(e->key);
    free(e->sentence);
}

void conf_errors_done(struct conf_errors *e)
{
    for (size_t i = 0; i < e->count; i++)
        error_done(&e->items[i]);
    free(e->items);
    *e = (struct conf_errors){0};
}

static char *copy(const char *text)
{
    return strdup(text ? text : "");
}

int conf_errors_add(struct conf_errors *e, const struct conf_error *error)
{
    if (e->count >= CONF_ERROR_MAX) {
        e->dropped++;
        return 0;
    }
    struct conf_error *items = reallocarray(e->items, e->count + 1, sizeof *items);
    if (!items)
        return -ENOMEM;
    e->items = items;
    struct conf_error new = {copy(error->file), copy(error->section), copy(error->key),
                             copy(error->sentence), error->line};
    if (!new.file || !new.section || !new.key || !new.sentence) {
        error_done(&new);
        return -ENOMEM;
    }
    items[e->count++] = new;
    return 0;
}

/* UTF-8 may pass where the text was valid; what a terminal would obey may not. */
static void printable(char *text)
{
    for (char *c = text; *c; c++)
        if ((uint8_t)*c < ' ' || *c == 0x7f)
            *c = '?';
}

/* A precision may have cut a character in two: its beginning goes, too. */
static void whole_characters(char *text)
{
    char *to = text;
    for (const char *c = text; *c;) {
        size_t n = 1, want = 1;
        uint8_t lead = (uint8_t)*c;
        if (lead >= 0xc0)
            want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        while (n < want && ((uint8_t)c[n] & 0xc0) == 0x80)
            n++;
        if (n == want && (lead & 0xc0) != 0x80) {
            memmove(to, c, n);
            to += n;
        }
        c += n;
    }
    *to = 0;
}

void conf_complain(struct conf_reader *r, unsigned line, const char *key, const char *format, ...)
{
    char sentence[640], shown_key[64];
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(sentence, sizeof sentence, format, ap);
    va_end(ap);
    (void)snprintf(shown_key, sizeof shown_key, "%s", key);
    printable(sentence);
    printable(shown_key);
    whole_characters(sentence);
    whole_characters(shown_key);
    const struct conf_error error = {(char *)r->file, r->shown, shown_key, sentence, line};
    if (conf_errors_add(r->errors, &error) < 0)
        r->short_of_memory = true;
}

void conf_error_print(const struct conf_error *e, FILE *f)
{
    (void)fputs(e->file, f);
    if (e->line)
        (void)fprintf(f, ":%u", e->line);
    (void)fputs(": ", f);
    if (e->section[0])
        (void)fprintf(f, "[%s] ", e->section);
    if (e->key[0])
        (void)fprintf(f, "%s: ", e->key);
    (void)fprintf(f, "%s\n", e->sentence);
}
