/* The words for techniques, and when two fingerprints of NATs are one. Pure: numbers come in that
 * may come from a peer, words of this file and yes or no go out. */
#include "wire/technique.h"

const char *technique_word(enum technique technique)
{
    static const char *const words[TECHNIQUE_END] = {
        [TECHNIQUE_UNKNOWN] = "unknown", [TECHNIQUE_PLAIN] = "plain",
        [TECHNIQUE_CAREFUL] = "careful", [TECHNIQUE_PREDICTED] = "predicted",
        [TECHNIQUE_GUESSED] = "guessed", [TECHNIQUE_TCP] = "tcp",
        [TECHNIQUE_MAPPED] = "mapped",   [TECHNIQUE_RELAY] = "relay",
    };
    return (unsigned)technique < TECHNIQUE_END ? words[technique] : words[TECHNIQUE_UNKNOWN];
}

enum technique technique_from(uint8_t number)
{
    return number < TECHNIQUE_END ? (enum technique)number : TECHNIQUE_UNKNOWN;
}

bool nat_print_equal(const struct nat_print *a, const struct nat_print *b)
{
    return a->mapping == b->mapping && a->filtering == b->filtering &&
           a->allocation == b->allocation && a->step == b->step;
}
