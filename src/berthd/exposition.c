/* Writes metrics as text: names, labels and values come in, one string goes out. Label values are
 * any bytes; what is no UTF-8 becomes `?`. */
#include "berthd/exposition.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct exposition *e, const char *p, size_t n)
{
    if (e->failed)
        return;
    if (e->size - e->used <= n) {
        size_t size = 2 * (e->size + n + 1024);
        char *more = realloc(e->text, size);
        if (!more) {
            e->failed = -ENOMEM;
            return;
        }
        e->text = more;
        e->size = size;
    }
    memcpy(e->text + e->used, p, n);
    e->used += n;
    e->text[e->used] = 0;
}

static void put_text(struct exposition *e, const char *text)
{
    put(e, text, strlen(text));
}

/* How long the UTF-8 sequence is that begins here; 0 when it is none (RFC 3629 4, where surrogates
 * and longer forms than needed are none). */
static size_t utf8_length(const unsigned char *p)
{
    size_t n = p[0] < 0x80                   ? 1
               : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
               : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                                             : 4;
    if (n == 4 && (p[0] < 0xf0 || p[0] > 0xf4))
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool odd = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
               (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90);
    return odd ? 0 : n;
}

/* The format knows three escapes in a label's value. Returns the length written. */
static size_t escape(const char *value, char *out)
{
    size_t used = 0;
    for (const char *p = value; *p;) {
        size_t n = utf8_length((const unsigned char *)p);
        if (*p == '\\' || *p == '"' || *p == '\n') {
            out[used++] = '\\';
            out[used++] = *p == '\n' ? 'n' : *p;
        } else if (n == 0) {
            out[used++] = '?';
        } else {
            memcpy(out + used, p, n);
            used += n;
        }
        p += n ? n : 1;
    }
    return used;
}

static char *labels_text(const struct exposition_label *labels)
{
    size_t size = 1, used = 0;
    for (const struct exposition_label *l = labels; l && l->name; l++)
        size += strlen(l->name) + 2 * strlen(l->value) + 4;
    char *text = malloc(size);
    for (const struct exposition_label *l = labels; text && l && l->name; l++) {
        used += (size_t)sprintf(text + used, "%s%s=\"", l == labels ? "" : ",", l->name);
        used += escape(l->value, text + used);
        text[used++] = '"';
    }
    if (text)
        text[used] = 0;
    return text;
}

void exposition_begin(struct exposition *e, const char *name, const char *type, const char *help)
{
    e->name = name;
    put_text(e, "# HELP ");
    put_text(e, name);
    put_text(e, " ");
    put_text(e, help);
    put_text(e, "\n# TYPE ");
    put_text(e, name);
    put_text(e, " ");
    put_text(e, type);
    put_text(e, "\n");
}

void exposition_add(struct exposition *e, const struct exposition_label *labels, double value)
{
    if (e->failed)
        return;
    if (e->sample_count == e->sample_size) {
        size_t size = e->sample_size ? 2 * e->sample_size : 64;
        struct exposition_sample *more = reallocarray(e->samples, size, sizeof *more);
        if (!more) {
            e->failed = -ENOMEM;
            return;
        }
        e->samples = more;
        e->sample_size = size;
    }
    char *text = labels_text(labels);
    if (text)
        e->samples[e->sample_count++] = (struct exposition_sample){text, value};
    else
        e->failed = -ENOMEM;
}

static int by_labels(const void *a, const void *b)
{
    const struct exposition_sample *x = a, *y = b;
    return strcmp(x->labels, y->labels);
}

static void put_sample(struct exposition *e, const struct exposition_sample *s)
{
    char value[40];
    put_text(e, e->name);
    if (s->labels[0]) {
        put_text(e, "{");
        put_text(e, s->labels);
        put_text(e, "}");
    }
    (void)snprintf(value, sizeof value, " %.15g\n", s->value);
    put_text(e, value);
}

void exposition_end(struct exposition *e)
{
    if (e->sample_count > 1)
        qsort(e->samples, e->sample_count, sizeof *e->samples, by_labels);
    for (size_t i = 0; i < e->sample_count; i++) {
        struct exposition_sample *s = &e->samples[i];
        bool twice = i + 1 < e->sample_count && by_labels(s, s + 1) == 0;
        if (twice)
            s[1].value += s->value;
        else
            put_sample(e, s);
        free(s->labels);
    }
    e->sample_count = 0;
}

void exposition_one(struct exposition *e, const char *name, const char *type, const char *help,
                    double value)
{
    exposition_begin(e, name, type, help);
    exposition_add(e, NULL, value);
    exposition_end(e);
}

char *exposition_finish(struct exposition *e)
{
    char *text = e->text;
    for (size_t i = 0; i < e->sample_count; i++)
        free(e->samples[i].labels);
    free(e->samples);
    if (e->failed) {
        free(text);
        text = NULL;
    }
    *e = (struct exposition){.text = NULL};
    return text;
}
