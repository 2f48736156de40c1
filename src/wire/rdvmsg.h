#pragma once
/* The messages between a peer and a rendezvous server: one UDP datagram each, or behind a 16-bit
 * length over TCP. docs/RENDEZVOUS.md shows the bytes and the rules.
 *
 *   HELLO    -> COOKIE                    proves the sender's address
 *   REGISTER -> REGISTERED               a signed record and a signed login; gives a token
 *   REFRESH  -> REFRESHED                the token keeps the lease; cheap
 *   LOOKUP   -> FOUND                    by key or by name
 *   CLAIM, RELEASE -> DONE               of a name, signed
 *   LIST     -> NAMES                    that a key holds
 * Any of them may get ERROR, or COOKIE where a proof of the address is wanted first. */

#include "base/addr.h"
#include "base/fd.h"
#include "base/str.h"

#define RDVMSG_MAGIC     5 /* not STUN (0-3), not DTLS (20-63), not QUIC (64-255) */
#define RDVMSG_VERSION   1
#define RDVMSG_HEAD      12
#define RDVMSG_MAX       1200 /* fits into one packet everywhere */
#define RDVMSG_HELLO_MIN 64   /* as long as its answer at least */
#define RDVMSG_COOKIE    16
#define RDVMSG_KEY       32
#define RDVMSG_SIGNATURE 64
#define RDVMSG_NAMES_MAX 16

enum rdvmsg_type {
    RDVMSG_HELLO = 1,
    RDVMSG_COOKIE_IS,
    RDVMSG_REGISTER,
    RDVMSG_REGISTERED,
    RDVMSG_REFRESH,
    RDVMSG_REFRESHED,
    RDVMSG_LOOKUP,
    RDVMSG_FOUND,
    RDVMSG_CLAIM,
    RDVMSG_RELEASE,
    RDVMSG_DONE,
    RDVMSG_LIST,
    RDVMSG_NAMES,
    RDVMSG_ERROR,
    RDVMSG_TYPE_COUNT,
};

/* Why something was refused. The words are stable: logs, JSON and tests show them. */
#define RDV_REASONS(X)                                                                             \
    X(RDV_BAD_MESSAGE, "BadMessage", "the message makes no sense")                                 \
    X(RDV_BAD_RECORD, "BadRecord", "the record makes no sense")                                    \
    X(RDV_BAD_VERSION, "BadVersion", "the record is of a version that is not known here")          \
    X(RDV_FORGED, "Forged", "the signature is not the key's")                                      \
    X(RDV_REPLAYED, "Replayed", "a newer record of this key is known")                             \
    X(RDV_SEQUENCE_REUSED, "SequenceReused", "another record with this sequence number is known")  \
    X(RDV_EXPIRED, "Expired", "the record is no longer valid")                                     \
    X(RDV_TOO_LONG_VALID, "TooLongValid", "the record would be valid for too long")                \
    X(RDV_BAD_TOKEN, "BadToken", "the token is not for this key and address: register anew")       \
    X(RDV_NOT_REGISTERED, "NotRegistered", "no peer with this key is registered")                  \
    X(RDV_UNKNOWN_NAME, "UnknownName", "nobody holds this name")                                   \
    X(RDV_BAD_NAME, "BadName", "a name has 1 to 40 of a-z, 0-9 and inner hyphens")                 \
    X(RDV_NAME_TAKEN, "NameTaken", "another key holds this name")                                  \
    X(RDV_NOT_OWNER, "NotOwner", "this key does not hold the name")                                \
    X(RDV_TOO_MANY_NAMES, "TooManyNames", "this key holds as many names as it may")                \
    X(RDV_RATE_LIMITED, "RateLimited", "too many requests from this address: try again later")     \
    X(RDV_BUSY, "Busy", "the server has too much to do: try again later")                          \
    X(RDV_FULL, "Full", "the server has no room for more")                                         \
    X(RDV_STORAGE, "Storage", "the server cannot write to its disk")

#define RDV_REASON_ENUM(id, word, sentence) id,
enum rdv_reason { RDV_OK, RDV_REASONS(RDV_REASON_ENUM) RDV_REASON_COUNT };

/* "BadMessage"; "Unknown" for numbers without a word. */
const char *rdv_reason_word(enum rdv_reason reason);
const char *rdv_reason_sentence(enum rdv_reason reason);

/* Only the fields of the type are sent. Slices of a decoded message point into its bytes. */
struct rdvmsg {
    enum rdvmsg_type type;
    uint64_t transaction;          /* the asker's; the answer has the same */
    uint8_t cookie[RDVMSG_COOKIE]; /* all zero: none */
    uint8_t token[RDVMSG_COOKIE];  /* REGISTERED, REFRESH, REFRESHED */
    uint8_t key[RDVMSG_KEY];       /* whose */
    uint8_t signature[RDVMSG_SIGNATURE];
    uint16_t lifetime_s; /* of the cookie, or of the lease */
    uint16_t refresh_s;  /* how often a lease is to be refreshed */
    uint32_t age_s;      /* FOUND: since the last sign of life */
    uint64_t number;     /* a sequence, or Unix time in seconds */
    enum rdv_reason reason;
    struct addr addr;  /* COOKIE: where the server sees the asker */
    struct str name;   /* LOOKUP: empty asks by key */
    struct str record; /* signed; FOUND: empty when nobody is registered */
    struct str names[RDVMSG_NAMES_MAX];
    size_t name_count;
    size_t pad_to; /* encoding HELLO, LOOKUP and LIST: zeros up to this length */
};

/* Length, or -EMSGSIZE. */
int rdvmsg_encode(const struct rdvmsg *m, void *buf, size_t size) WARN_UNUSED;
/* -EBADMSG; padding is passed over where it is allowed. Only the fields of the type are set, and
 * after an error nothing in m means anything: clearing it all for every datagram would show. */
int rdvmsg_decode(struct rdvmsg *m, const void *buf, size_t n) WARN_UNUSED;

/* What a login signs: the cookie and the whole signed record; what a claim or release signs: the
 * cookie and the name. Length of the message in buf. */
#define RDVMSG_SIGNED_MAX (RDVMSG_COOKIE + 1024)
int rdvmsg_signed(const uint8_t cookie[RDVMSG_COOKIE], struct str what,
                  uint8_t buf[RDVMSG_SIGNED_MAX]) WARN_UNUSED;
