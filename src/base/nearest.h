#pragma once
/* What somebody may have meant who mistyped a word. */

/* The word of a list (ending in NULL) that is at most two letters away, or NULL. */
const char *nearest_word(const char *word, const char *const *words);
