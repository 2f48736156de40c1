/* The distance between words (V. Levenshtein's), and the nearest one of a list. Words in, one of
 * them out. */
#include "base/nearest.h"

#include <stddef.h>
#include <string.h>

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Insertions, deletions and replacements between two words; long words are cut. */
static size_t distance(const char *a, const char *b)
{
    enum { MAX = 24 };
    size_t row[MAX + 1], nb = strnlen(b, MAX);
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] && i <= MAX; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[nb];
}

const char *nearest_word(const char *word, const char *const *words)
{
    const char *best = NULL;
    size_t least = 3; /* farther than two letters is a guess, not a slip */
    for (; *words; words++) {
        size_t d = distance(word, *words);
        if (d >= least || d >= strlen(*words))
            continue;
        least = d;
        best = *words;
    }
    return best;
}
