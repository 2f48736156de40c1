#pragma once
/* Splitting a value into words, as systemd does it: blanks separate, 'single' and "double" quotes
 * hold together, a backslash escapes in both and outside; no variables, no globbing, no shell. A
 * word that begins with # ends the value: the rest is a comment. */

#include "conf/conf.h"

#define CONF_WORDS_MAX  (CONF_LINE_MAX / 2)
#define CONF_REASON_MAX 320

struct conf_words {
    size_t count;
    char *items[CONF_WORDS_MAX + 1]; /* into text; ends in NULL */
    char text[CONF_LINE_MAX + 8];
};

/* 0, or -EINVAL and a sentence in reason. text.n must be at most CONF_LINE_MAX. */
int conf_words_split(struct str text, struct conf_words *ret_words,
                     char reason[CONF_REASON_MAX]) WARN_UNUSED;
