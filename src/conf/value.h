#pragma once
/* What each type of the table can do. */

#include "conf/conf.h"
#include "conf/schema.h"
#include "conf/words.h"

/* One value on its way in. */
struct conf_value {
    const struct conf_key *key;
    const struct conf_words *words;
    char *reason; /* CONF_REASON_MAX bytes */
};

struct conf_ops {
    const char *expects; /* for people: "write 512, 64K, 10M or 2G" */
    /* Writes the field, or appends to it. 0; -EINVAL and a sentence; -ENOMEM. A field that is
     * replaced held the default, which owns nothing. */
    int (*parse)(const struct conf_value *v, void *field);
    /* Item i of a list, the value for the others (i is 0). */
    void (*format)(const struct conf_key *k, const void *field, size_t i, FILE *f);
    bool (*equal)(const void *a, const void *b);
    void (*done)(void *field);          /* NULL: owns nothing */
    size_t (*count)(const void *field); /* NULL: no list */
    bool one_line;                      /* a list that is one value: a command */
};

const struct conf_ops *conf_ops(enum conf_type type);

/* The parts of the table, in value.c, value-text.c and value-list.c. */
extern const struct conf_ops conf_ops_bool, conf_ops_count, conf_ops_percent, conf_ops_mode,
    conf_ops_size, conf_ops_duration, conf_ops_choice, conf_ops_range, conf_ops_span;
extern const struct conf_ops conf_ops_name, conf_ops_path, conf_ops_addr, conf_ops_health,
    conf_ops_target;
extern const struct conf_ops conf_ops_words, conf_ops_env, conf_ops_files, conf_ops_servers,
    conf_ops_routes, conf_ops_addrs, conf_ops_ports, conf_ops_times;

static inline const void *conf_field(const void *object, const struct conf_key *k)
{
    return (const char *)object + k->offset;
}

/* Writes the sentence and returns -EINVAL. */
int conf_refuse(const struct conf_value *v, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same for no value at all. */
int conf_missing(const struct conf_value *v);
/* The only word, or NULL after a sentence. */
const char *conf_single(const struct conf_value *v);
/* Whether it is the key's word for zero. */
bool conf_is_zero(const struct conf_key *k, const char *word);
/* Decimal digits only, at most max; *text moves behind them. */
int conf_number(const char **text, uint64_t max, uint64_t *ret_n) WARN_UNUSED;
void conf_duration_format(uint64_t ms, FILE *f);
void conf_size_format(uint64_t bytes, FILE *f);
