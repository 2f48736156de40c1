/* The command line of the user-space NAT: words of the form key=value come in, a struct of numbers
 * goes out. A table has the numbers and the words that stand for numbers. */

#include "unat-options.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct option_row {
    const char *name;
    size_t at;
    long min, max;
    const char *words; /* instead of a number; their order is the value */
};

static const struct option_row option_rows[] = {
    {"mode", offsetof(struct options, mode), 0, 0, "nat wire"},
    {"map", offsetof(struct options, map), 0, 0, "eim adm apdm"},
    {"filter", offsetof(struct options, filter), 0, 0, "eif adf apdf"},
    {"ports", offsetof(struct options, ports), 0, 0, "random sequence keep"},
    {"first", offsetof(struct options, first), 1, UINT16_MAX, NULL},
    {"count", offsetof(struct options, count), 1, UINT16_MAX, NULL},
    {"step", offsetof(struct options, step), 1, 1000, NULL},
    {"hairpin", offsetof(struct options, hairpin), 0, 1, NULL},
    {"reject", offsetof(struct options, reject), 0, 1, NULL},
    {"timeout_s", offsetof(struct options, timeout_s), 1, 86400, NULL},
    {"delay_us", offsetof(struct options, delay_us), 0, 10000000, NULL},
    {"jitter_us", offsetof(struct options, jitter_us), 0, 10000000, NULL},
    {"loss_ppm", offsetof(struct options, loss_ppm), 0, 1000000, NULL},
    {"seed", offsetof(struct options, seed), 1, LONG_MAX, NULL},
};

/* The place of a word in a list of them, or -1. */
static long word_index(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (long i = 0; *words; i++) {
        size_t len = strcspn(words, " ");
        if (len == n && memcmp(words, word, n) == 0)
            return i;
        words += len + (words[len] == ' ');
    }
    return -1;
}

static bool option_set_row(struct options *o, const struct option_row *r, const char *value)
{
    char *end = NULL;
    long v = r->words ? word_index(r->words, value) : strtol(value, &end, 10);
    bool good = r->words ? v >= 0 : end != value && !*end && v >= r->min && v <= r->max;
    if (good)
        *(long *)((char *)o + r->at) = v;
    return good;
}

static bool option_set_text(struct options *o, const char *key, const char *value)
{
    struct in_addr ip;
    if (strcmp(key, "dev") == 0)
        return snprintf(o->dev, sizeof o->dev, "%s", value) < (int)sizeof o->dev;
    if (strcmp(key, "back") == 0)
        return snprintf(o->back, sizeof o->back, "%s", value) < (int)sizeof o->back;
    bool outside = strcmp(key, "outside") == 0;
    if ((!outside && strcmp(key, "inside") != 0) || inet_pton(AF_INET, value, &ip) != 1)
        return false;
    *(outside ? &o->outside : &o->inside) = ntohl(ip.s_addr);
    return true;
}

static bool option_set(struct options *o, const char *key, const char *value)
{
    for (size_t i = 0; i < sizeof option_rows / sizeof *option_rows; i++)
        if (strcmp(option_rows[i].name, key) == 0)
            return option_set_row(o, &option_rows[i], value);
    return option_set_text(o, key, value);
}

bool options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.filter = BY_BOTH, .first = PORT_LOWEST, .count = 65536 - PORT_LOWEST};
    o->step = 1;
    o->timeout_s = 300;
    (void)snprintf(o->dev, sizeof o->dev, "nat0");
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value)
            *value++ = '\0';
        if (value && option_set(o, argv[i], value))
            continue;
        (void)fprintf(stderr, "unat: %s: not understood\n", argv[i]);
        return false;
    }
    if (o->first + o->count > 65536)
        o->count = 65536 - o->first;
    return true;
}
