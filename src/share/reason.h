#pragma once
/* Why a connection is refused: one word a reason, for the log, for the client and for the policy of
 * a queue. The numbers travel on the channel and index the board: new ones go to the end. */

#include <stdbool.h>
#include <stdint.h>

enum reason {
    REASON_NONE,
    REASON_NO_ROUTE,
    REASON_RESERVED,
    REASON_BAD_REQUEST,
    REASON_NO_HOST,
    REASON_TWO_HOSTS,
    REASON_TOO_LARGE,
    REASON_BAD_PROXY,
    REASON_SILENT,
    REASON_HEADER_WAIT,
    REASON_SLOW_HEADER,
    REASON_CLOSED,
    REASON_RESET,
    REASON_QUEUE_FULL,
    REASON_LIMIT,
    REASON_SOURCE_LIMIT,
    REASON_PATIENCE,
    REASON_APP_STOPPED,
    REASON_START_FAILED,
    REASON_RAPID_FAIL,
    REASON_NO_MEMORY,
    REASON_UPSTREAM_REFUSED,
    REASON_UPSTREAM_TIMEOUT,
    REASON_UPSTREAM_UNREACHABLE,
    REASON_NOT_SERVED,
    REASON_BAD_STREAM,
    REASON_COUNT,
};

/* How a refusal is said in one protocol or another. */
enum reason_kind { REASON_KIND_NOBODY, REASON_KIND_BAD, REASON_KIND_LARGE, REASON_KIND_BUSY };

struct reason_info {
    const char *word;
    enum reason_kind kind;
    uint16_t status;      /* HTTP */
    const char *sentence; /* for people, without a full stop */
};

/* One refusal. Zeros: the reason's own status, Retry-After of a second, nobody's. */
struct refusal {
    enum reason reason;
    uint16_t status;  /* HTTP */
    uint32_t retry_s; /* Retry-After of an answer 503 */
    bool reset;       /* by a TCP reset, without a word */
    uint32_t whose;   /* 1 + the number of the queue that it was for */
};

/* Numbers that are no reason are shown as REASON_NONE, whose word is "-". */
const struct reason_info *reason_info(unsigned reason);
const char *reason_word(unsigned reason);
/* REASON_NONE for a word that is none. */
enum reason reason_find(const char *word);
/* "Not Found"; "Refused" for a status that nobody named. */
const char *reason_phrase(uint16_t status);
