#pragma once
/* How peers on one local network find each other without a server: a query by multicast for one
 * key, and its answer by unicast to who asked. Neither says to others who asks, who is asked for,
 * or who answers. The codec is pure; peerd/lan.h seals and opens. docs/RENDEZVOUS.md shows the
 * bytes.
 */

#include "base/fd.h"
#include "base/str.h"
#include "wire/record.h"

#define LANMSG_MAGIC   8
#define LANMSG_VERSION 1
#define LANMSG_NONCE   16
#define LANMSG_TAG     8
/* The longest answer; each query is padded to it, so that no answer is longer than its question. */
#define LANMSG_MAX 1110
/* A query in its box, and an answer in its. */
#define LANMSG_QUERY_PLAIN  (LANMSG_NONCE + 8 + 2)
#define LANMSG_ANSWER_PLAIN (LANMSG_NONCE + 2 + 2 + RECORD_MAX)

enum lanmsg_type { LANMSG_QUERY = 1, LANMSG_ANSWER, LANMSG_TYPE_END };

struct lanmsg {
    enum lanmsg_type type;
    uint8_t nonce[LANMSG_NONCE]; /* of the query; the answer repeats it */
    uint8_t tag[LANMSG_TAG];     /* QUERY: a keyed hash of the nonce, by the wanted key */
    struct str sealed;
};

/* Length, or -EMSGSIZE. */
int lanmsg_encode(const struct lanmsg *m, void *buf, size_t size) WARN_UNUSED;
/* -EBADMSG. What is sealed points into the bytes. */
int lanmsg_decode(struct lanmsg *ret_m, const void *buf, size_t n) WARN_UNUSED;

/* What is in the boxes. */
struct lan_query {
    uint8_t nonce[LANMSG_NONCE];
    uint64_t unix_ms;
    uint16_t port; /* of the asker's UDP socket */
};

struct lan_answer {
    uint8_t nonce[LANMSG_NONCE];
    uint16_t port;     /* of the UDP socket that answers sessions */
    struct str record; /* signed; may be empty */
};

int lan_query_encode(const struct lan_query *q, void *buf, size_t size) WARN_UNUSED;
int lan_query_decode(struct lan_query *ret_q, const void *buf, size_t n) WARN_UNUSED;
int lan_answer_encode(const struct lan_answer *a, void *buf, size_t size) WARN_UNUSED;
int lan_answer_decode(struct lan_answer *ret_a, const void *buf, size_t n) WARN_UNUSED;
