/* Values that are numbers: text to value and back. Words come in; the field gets the value only
 * when it is good and within the key's limits. */
#include "conf/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>

int conf_refuse(const struct conf_value *v, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(v->reason, CONF_REASON_MAX, format, ap);
    va_end(ap);
    return -EINVAL;
}

int conf_missing(const struct conf_value *v)
{
    return conf_refuse(v, "the value is missing: %s", conf_ops(v->key->type)->expects);
}

const char *conf_single(const struct conf_value *v)
{
    if (v->words->count == 1 && v->words->items[0][0])
        return v->words->items[0];
    if (v->words->count > 1)
        (void)conf_refuse(v, "this wants one value; quote it when it has blanks: %s",
                          conf_ops(v->key->type)->expects);
    else
        (void)conf_missing(v);
    return NULL;
}

bool conf_is_zero(const struct conf_key *k, const char *word)
{
    return k->zero && strcmp(word, k->zero) == 0;
}

int conf_number(const char **text, uint64_t max, uint64_t *ret_n)
{
    uint64_t n = 0;
    const char *c = *text;
    if (!ascii_is_digit(*c))
        return -EINVAL;
    for (; ascii_is_digit(*c); c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        if (n > (max - digit) / 10)
            return -ERANGE;
        n = n * 10 + digit;
    }
    *text = c;
    *ret_n = n;
    return 0;
}

static int wrong(const struct conf_value *v, const char *word)
{
    return conf_refuse(v, "\"%.60s\" is not understood: %s%s%s", word,
                       conf_ops(v->key->type)->expects, v->key->zero ? ", or " : "",
                       v->key->zero ? v->key->zero : "");
}

/* bool */

static int bool_parse(const struct conf_value *v, void *field)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    const char *word = conf_single(v);
    if (!word)
        return -EINVAL;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(word, words[i]) != 0)
            continue;
        *(bool *)field = i % 2;
        return 0;
    }
    return wrong(v, word);
}

static void bool_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    (void)k, (void)i;
    (void)fputs(*(const bool *)field ? "yes" : "no", f);
}

static bool bool_equal(const void *a, const void *b)
{
    return *(const bool *)a == *(const bool *)b;
}

/* Numbers with 32 bits */

static bool u32_equal(const void *a, const void *b)
{
    return *(const uint32_t *)a == *(const uint32_t *)b;
}

/* A number with at most one character behind it. */
static int u32_parse(const struct conf_value *v, uint32_t *field, const char *unit)
{
    const char *word = conf_single(v), *at = word;
    uint64_t n = 0;
    if (!word)
        return -EINVAL;
    int r = conf_is_zero(v->key, word) ? 0 : conf_number(&at, UINT32_MAX, &n);
    if (r == -EINVAL || (at != word && strcmp(at, unit) != 0))
        return wrong(v, word);
    if (r < 0 || n < v->key->min || n > v->key->max)
        return conf_refuse(v, "\"%.60s\" is out of range: write %" PRIu64 " to %" PRIu64 "%s", word,
                           v->key->min, v->key->max, unit);
    *field = (uint32_t)n;
    return 0;
}

static void u32_format(const struct conf_key *k, const void *field, const char *unit, FILE *f)
{
    uint32_t n = *(const uint32_t *)field;
    if (n == 0 && k->zero)
        (void)fputs(k->zero, f);
    else
        (void)fprintf(f, "%" PRIu32 "%s", n, unit);
}

static int count_parse(const struct conf_value *v, void *field)
{
    return u32_parse(v, field, "");
}

static void count_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    (void)i;
    u32_format(k, field, "", f);
}

static int percent_parse(const struct conf_value *v, void *field)
{
    return u32_parse(v, field, "%");
}

static void percent_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    (void)i;
    u32_format(k, field, "%", f);
}

static int mode_parse(const struct conf_value *v, void *field)
{
    const char *word = conf_single(v);
    uint32_t mode = 0;
    if (!word)
        return -EINVAL;
    for (const char *c = word; *c; c++) {
        if (*c < '0' || *c > '7' || mode > 07777)
            return wrong(v, word);
        mode = mode << 3 | (uint32_t)(*c - '0');
    }
    if (mode > v->key->max)
        return wrong(v, word);
    *(uint32_t *)field = mode;
    return 0;
}

static void mode_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    (void)k, (void)i;
    (void)fprintf(f, "%04" PRIo32, *(const uint32_t *)field);
}

static int choice_parse(const struct conf_value *v, void *field)
{
    const char *word = conf_single(v);
    char all[160] = "";
    size_t used = 0;
    if (!word)
        return -EINVAL;
    for (uint32_t i = 0; v->key->choices[i]; i++) {
        if (strcmp(word, v->key->choices[i]) == 0) {
            *(uint32_t *)field = i;
            return 0;
        }
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "",
                                 v->key->choices[i]);
        if (used >= sizeof all)
            used = sizeof all - 1;
    }
    return conf_refuse(v, "\"%.60s\" is not one of the words for this: %s", word, all);
}

static void choice_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    (void)i;
    (void)fputs(k->choices[*(const uint32_t *)field], f);
}

/* Sizes and durations */

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit sizes[] = {{"T", (uint64_t)1 << 40}, {"G", 1 << 30}, {"M", 1 << 20},
                                    {"K", 1 << 10},           {"", 1},        {NULL, 0}};
static const struct unit durations[] = {
    {"d", 86400000}, {"h", 3600000}, {"min", 60000}, {"s", 1000}, {"ms", 1}, {"", 1000}, {NULL, 0}};

/* A number and its unit; *text moves behind both. The limit keeps every product and sum within 64
 * bits. */
static int quantity_take(const char **text, const struct unit *units, uint64_t *ret_n)
{
    uint64_t n;
    int r = conf_number(text, UINT32_MAX, &n);
    if (r < 0)
        return r;
    size_t len = strspn(*text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    for (const struct unit *u = units; u->name; u++) {
        if (strlen(u->name) != len || strncmp(u->name, *text, len) != 0)
            continue;
        *text += len;
        *ret_n = n * u->factor;
        return 0;
    }
    return -EINVAL;
}

static void quantity_format(uint64_t n, const struct unit *units, FILE *f)
{
    const struct unit *u = units;
    while (u->factor > 1 && n % u->factor != 0)
        u++;
    (void)fprintf(f, "%" PRIu64 "%s", n / u->factor, u->name);
}

void conf_duration_format(uint64_t ms, FILE *f)
{
    if (ms == 0)
        (void)fputs("0", f);
    else
        quantity_format(ms, durations, f);
}

void conf_size_format(uint64_t bytes, FILE *f)
{
    if (bytes == 0)
        (void)fputs("0", f);
    else
        quantity_format(bytes, sizes, f);
}

static void text_of(void (*format)(uint64_t, FILE *), uint64_t n, char *buf, size_t size)
{
    FILE *f = fmemopen(buf, size, "w");
    if (!f) {
        *buf = 0;
        return;
    }
    format(n, f);
    (void)fclose(f);
    buf[size - 1] = 0;
}

static int out_of_range(const struct conf_value *v, void (*format)(uint64_t, FILE *))
{
    char min[32] = "", max[32] = "";
    text_of(format, v->key->min, min, sizeof min);
    text_of(format, v->key->max, max, sizeof max);
    return conf_refuse(v, "\"%.60s\" is out of range: write %s to %s%s%s", v->words->items[0], min,
                       max, v->key->zero ? ", or " : "", v->key->zero ? v->key->zero : "");
}

static int size_parse(const struct conf_value *v, void *field)
{
    const char *word = conf_single(v), *at = word;
    uint64_t n = 0;
    if (!word)
        return -EINVAL;
    int r = conf_is_zero(v->key, word) ? 0 : quantity_take(&at, sizes, &n);
    if (r == -EINVAL || (at != word && *at))
        return wrong(v, word);
    if (r < 0 || n < v->key->min || n > v->key->max)
        return out_of_range(v, conf_size_format);
    *(uint64_t *)field = n;
    return 0;
}

static void size_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    (void)i;
    if (*(const uint64_t *)field == 0 && k->zero)
        (void)fputs(k->zero, f);
    else
        conf_size_format(*(const uint64_t *)field, f);
}

/* `1h 30min` is one duration of two parts. */
static int duration_take(const struct conf_value *v, uint64_t *ret_ms)
{
    uint64_t sum = 0;
    if (v->words->count == 0)
        return conf_missing(v);
    if (v->words->count == 1 && conf_is_zero(v->key, v->words->items[0])) {
        *ret_ms = 0;
        return 0;
    }
    for (size_t i = 0; i < v->words->count; i++) {
        const char *at = v->words->items[i];
        do {
            uint64_t part;
            int r = quantity_take(&at, durations, &part);
            if (r == -EINVAL)
                return wrong(v, v->words->items[i]);
            sum = r < 0 || sum > UINT64_MAX / 2 ? UINT64_MAX / 2 : sum + part;
            if (r < 0)
                break;
        } while (*at);
    }
    *ret_ms = sum;
    return 0;
}

static int duration_parse(const struct conf_value *v, void *field)
{
    uint64_t ms = 0;
    if (duration_take(v, &ms) < 0)
        return -EINVAL;
    if (ms < v->key->min || ms > v->key->max)
        return out_of_range(v, conf_duration_format);
    *(uint64_t *)field = ms;
    return 0;
}

static void duration_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    (void)i;
    if (*(const uint64_t *)field == 0 && k->zero)
        (void)fputs(k->zero, f);
    else
        conf_duration_format(*(const uint64_t *)field, f);
}

static bool u64_equal(const void *a, const void *b)
{
    return *(const uint64_t *)a == *(const uint64_t *)b;
}

/* Ranges: LOW..HIGH, or one value for both. */

static int plain_take(const char **text, uint64_t *ret_n)
{
    return conf_number(text, UINT32_MAX, ret_n);
}

static int span_take(const char **text, uint64_t *ret_n)
{
    return quantity_take(text, durations, ret_n);
}

static int range_parse_by(const struct conf_value *v, struct conf_range *field,
                          int (*take)(const char **, uint64_t *), void (*format)(uint64_t, FILE *))
{
    const char *word = conf_single(v), *at = word;
    struct conf_range range;
    if (!word)
        return -EINVAL;
    int r = take(&at, &range.low);
    range.high = range.low;
    if (r == 0 && strncmp(at, "..", 2) == 0) {
        at += 2;
        r = take(&at, &range.high);
    }
    if (r == -ERANGE || (r == 0 && (range.low < v->key->min || range.high > v->key->max)))
        return out_of_range(v, format);
    if (r < 0 || *at)
        return wrong(v, word);
    if (range.low > range.high)
        return conf_refuse(v, "the smaller value of \"%.60s\" comes first", word);
    *field = range;
    return 0;
}

static void plain_format(uint64_t n, FILE *f)
{
    (void)fprintf(f, "%" PRIu64, n);
}

static void range_format_by(const struct conf_range *r, void (*format)(uint64_t, FILE *), FILE *f)
{
    format(r->low, f);
    if (r->high == r->low)
        return;
    (void)fputs("..", f);
    format(r->high, f);
}

static int range_parse(const struct conf_value *v, void *field)
{
    return range_parse_by(v, field, plain_take, plain_format);
}

static void range_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    (void)k, (void)i;
    range_format_by(field, plain_format, f);
}

static int span_parse(const struct conf_value *v, void *field)
{
    return range_parse_by(v, field, span_take, conf_duration_format);
}

static void span_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    (void)k, (void)i;
    range_format_by(field, conf_duration_format, f);
}

static bool range_equal(const void *a, const void *b)
{
    const struct conf_range *x = a, *y = b;
    return x->low == y->low && x->high == y->high;
}

const struct conf_ops conf_ops_bool = {"write yes or no", bool_parse, bool_format, bool_equal};
const struct conf_ops conf_ops_count = {"write a whole number", count_parse, count_format,
                                        u32_equal};
const struct conf_ops conf_ops_percent = {"write a percentage of one CPU as 150%", percent_parse,
                                          percent_format, u32_equal};
const struct conf_ops conf_ops_mode = {"write an octal number from 0000 to 0777", mode_parse,
                                       mode_format, u32_equal};
const struct conf_ops conf_ops_size = {"write bytes, or a size as 64K, 10M or 2G", size_parse,
                                       size_format, u64_equal};
const struct conf_ops conf_ops_duration = {"write a time as 500ms, 30s, 20min, 2h or 1d",
                                           duration_parse, duration_format, u64_equal};
const struct conf_ops conf_ops_choice = {"write one of the words", choice_parse, choice_format,
                                         u32_equal};
const struct conf_ops conf_ops_range = {"write a number, or two as 1..8", range_parse, range_format,
                                        range_equal};
const struct conf_ops conf_ops_span = {"write a time, or two as 10s..5min", span_parse, span_format,
                                       range_equal};
