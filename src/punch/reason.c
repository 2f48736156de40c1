/* Why no path was found, in words. A table. */
#include "punch/punch.h"

static const char *const reason_sentences[PUNCH_REASON_END] = {
    [PUNCH_NO_REASON] = "no reason",
    [PUNCH_NO_CANDIDATES] = "the peers have no kind of address in common",
    [PUNCH_NO_ANSWER] = "nothing came back from any of the peer's addresses",
    [PUNCH_ONE_WAY] = "the peer's packets came through, but ours did not reach it",
    [PUNCH_GUESSED_OUT] = "none of the guessed ports was one of the peer's",
    [PUNCH_BOTH_SYMMETRIC] = "both NATs choose a new port for each address",
    [PUNCH_UDP_BLOCKED] = "a network lets no UDP through",
};

const char *punch_reason_sentence(enum punch_reason reason)
{
    return reason < PUNCH_REASON_END ? reason_sentences[reason] : "unknown";
}
