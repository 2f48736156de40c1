#pragma once
/* The table of keys. Reader, `berth check`, `berth config`, the manual page and the comparison of
 * two configurations go through it; nothing else knows a key by name. */

#include <stddef.h>
#include <stdint.h>

enum conf_type {
    CONF_BOOL,     /* bool */
    CONF_COUNT,    /* uint32_t */
    CONF_PERCENT,  /* uint32_t */
    CONF_MODE,     /* uint32_t, octal */
    CONF_SIZE,     /* uint64_t, bytes */
    CONF_DURATION, /* uint64_t, ms */
    CONF_CHOICE,   /* an enum: which of `choices` */
    CONF_RANGE,    /* struct conf_range */
    CONF_SPAN,     /* struct conf_range, ms */
    CONF_NAME,     /* char *: a user or group */
    CONF_PATH,     /* char *: absolute */
    CONF_ADDR,     /* struct addr */
    CONF_HEALTH,   /* struct conf_health */
    CONF_TARGET,   /* char *: where connections are passed on to */
    CONF_WORDS,    /* struct conf_list: a command, in one line */
    CONF_ENV,      /* struct conf_list, repeatable as all below */
    CONF_FILES,    /* struct conf_list */
    CONF_SERVERS,  /* struct conf_list: HOST:PORT of rendezvous servers */
    CONF_ROUTES,   /* struct conf_list */
    CONF_ADDRS,    /* struct conf_addrs */
    CONF_PORTS,    /* struct conf_numbers */
    CONF_TIMES,    /* struct conf_numbers: minutes of the day */
    CONF_TYPE_COUNT,
};

struct conf_key {
    const char *name;
    enum conf_type type;
    size_t offset;
    uint64_t min, max;
    const char *zero;           /* the word that stands for 0 or for nothing, or NULL */
    const char *const *choices; /* ending in NULL */
    const char *preset;         /* the default as text; NULL: none */
    unsigned change;            /* enum conf_change */
    const char *help;           /* one line for people */
};

enum conf_section { CONF_SECTION_BERTH, CONF_SECTION_APP, CONF_SECTION_RESERVE, CONF_SECTIONS };

struct conf_schema {
    const char *name;     /* the first word in the brackets */
    const char *argument; /* the second, for people; NULL: there is none */
    const char *help;
    const struct conf_key *keys;
    size_t count; /* at most 64: struct conf_place has a bit for each */
    size_t place; /* where the struct conf_place is */
};

const struct conf_schema *conf_schema(enum conf_section section);
/* NULL when there is none. */
const struct conf_key *conf_key_find(const struct conf_schema *s, const char *name);
