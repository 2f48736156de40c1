#pragma once
/* A borrowed slice of bytes. It never owns memory and is not terminated by NUL. */

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct str {
    const char *p;
    size_t n;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_FMT      "%.*s"
#define STR_ARG(s)   (int)(s).n, (s).p ? (s).p : ""

static inline struct str str_of(const char *c)
{
    return (struct str){c, c ? strlen(c) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_eq_nocase(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

static inline bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* The slice behind the first n bytes; empty when n is larger than the slice. */
static inline struct str str_skip(struct str s, size_t n)
{
    return n >= s.n ? (struct str){s.p + s.n, 0} : (struct str){s.p + n, s.n - n};
}

/* ASCII only, whatever the locale. */
static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static inline bool ascii_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool ascii_is_alpha(char c)
{
    c = ascii_lower(c);
    return c >= 'a' && c <= 'z';
}
