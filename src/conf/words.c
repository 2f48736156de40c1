/* One line's value into words, and a word back into text. What comes in is valid UTF-8 without
 * control characters other than tabs; what goes out is, too, except for what escapes put there. */
#include "conf/words.h"

#include <errno.h>
#include <stdio.h>

struct splitter {
    struct str in;
    size_t at;
    char *out;
    size_t used;
    char *reason;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static int fail(struct splitter *s, const char *sentence)
{
    (void)snprintf(s->reason, CONF_REASON_MAX, "%s", sentence);
    return -EINVAL;
}

static int hex_digit(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* As many hex or octal digits as asked for, or -1. */
static long number_take(struct splitter *s, size_t digits, int base)
{
    long value = 0;
    if (s->in.n - s->at < digits)
        return -1;
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_digit(s->in.p[s->at++]);
        if (digit < 0 || digit >= base)
            return -1;
        value = value * base + digit;
    }
    return value;
}

/* An escape is at least as long as what it stands for, so out has room. */
static void utf8_put(struct splitter *s, unsigned long c)
{
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; n > 1 && i > 1; i--) {
        s->out[s->used + i - 1] = (char)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    s->out[s->used] = (char)(n > 1 ? lead[n] | c : c);
    s->used += n;
}

static int code_take(struct splitter *s, size_t digits, int base)
{
    long c = number_take(s, digits, base);
    if (c < 0)
        return fail(s, "after \\x stand two hex digits, after \\u four, after \\U eight, and after "
                       "a backslash and a digit two more octal ones");
    if (c == 0)
        return fail(s, "a NUL byte cannot be part of a word: leave out \\x00");
    if (digits <= 3 && c > 0x7f)
        return fail(s, "the bytes above \\x7f are parts of characters: write the character itself, "
                       "or \\u00e9");
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return fail(s, "there is no such character: \\U0010ffff is the last one");
    utf8_put(s, (unsigned long)c);
    return 0;
}

static int escape_take(struct splitter *s)
{
    static const char names[] = "abfnrtvs\\\"' ", values[] = "\a\b\f\n\r\t\v \\\"' ";
    if (s->at >= s->in.n)
        return fail(s, "a backslash at the end escapes nothing: write \\\\ for a backslash");
    char c = s->in.p[s->at++];
    const char *name = strchr(names, c);
    if (name && c) {
        s->out[s->used++] = values[name - names];
        return 0;
    }
    if (c == 'x')
        return code_take(s, 2, 16);
    if (c == 'u' || c == 'U')
        return code_take(s, c == 'u' ? 4 : 8, 16);
    if (c >= '0' && c <= '7') {
        s->at--;
        return code_take(s, 3, 8);
    }
    (void)snprintf(s->reason, CONF_REASON_MAX,
                   "a backslash before this character means nothing: write \\\\ for a backslash");
    return -EINVAL;
}

static int quoted_take(struct splitter *s, char quote)
{
    while (s->at < s->in.n) {
        char c = s->in.p[s->at++];
        if (c == quote)
            return 0;
        if (c != '\\')
            s->out[s->used++] = c;
        else if (escape_take(s) < 0)
            return -EINVAL;
    }
    (void)snprintf(s->reason, CONF_REASON_MAX,
                   "a %c is not closed: put another one where the quoted text ends, or write \\%c "
                   "for the character itself",
                   quote, quote);
    return -EINVAL;
}

static int word_take(struct splitter *s)
{
    while (s->at < s->in.n && !is_blank(s->in.p[s->at])) {
        char c = s->in.p[s->at++];
        int r = 0;
        if (c == '\\')
            r = escape_take(s);
        else if (c == '"' || c == '\'')
            r = quoted_take(s, c);
        else
            s->out[s->used++] = c;
        if (r < 0)
            return r;
    }
    s->out[s->used++] = 0;
    return 0;
}

int conf_words_split(struct str text, struct conf_words *ret_words, char reason[CONF_REASON_MAX])
{
    struct splitter s = {.in = text, .out = ret_words->text, .reason = reason};
    size_t count = 0;
    while (true) {
        while (s.at < text.n && is_blank(text.p[s.at]))
            s.at++;
        if (s.at >= text.n || text.p[s.at] == '#')
            break;
        if (count == CONF_WORDS_MAX)
            return fail(&s, "these are too many words for one line");
        ret_words->items[count++] = s.out + s.used;
        if (word_take(&s) < 0)
            return -EINVAL;
    }
    ret_words->items[count] = NULL;
    ret_words->count = count;
    return 0;
}

static bool is_plain(const char *word)
{
    if (!*word || *word == '#')
        return false;
    for (const char *c = word; *c; c++)
        if ((uint8_t)*c <= ' ' || *c == 0x7f || strchr("\"'\\", *c))
            return false;
    return true;
}

void conf_word_format(const char *word, FILE *f)
{
    if (is_plain(word)) {
        (void)fputs(word, f);
        return;
    }
    (void)fputc('"', f);
    for (const char *c = word; *c; c++) {
        if (*c == '"' || *c == '\\')
            (void)fprintf(f, "\\%c", *c);
        else if ((uint8_t)*c < ' ' || *c == 0x7f)
            (void)fprintf(f, "\\x%02x", (unsigned)*c);
        else
            (void)fputc(*c, f);
    }
    (void)fputc('"', f);
}
