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
 *   ALLOW    -> ALLOWED                  who may call this key
 *   CALL     -> CALLING                  and INVITE goes to the one who is called
 *   ANSWER   -> START                    and ANSWERED goes to the caller
 *   OPEN     -> OPENED                   this side of a relay channel is here
 *   WORKED   -> nothing                  how a call came through, for the next ones
 * Any of them may get ERROR, or COOKIE where a proof of the address is wanted first. */

#include "base/addr.h"
#include "base/fd.h"
#include "base/str.h"
#include "wire/technique.h"

#define RDVMSG_MAGIC     5 /* not STUN (0-3), not DTLS (20-63), not QUIC (64-255) */
#define RDVMSG_VERSION   1
#define RDVMSG_HEAD      12
#define RDVMSG_MAX       1200 /* fits into one packet everywhere */
#define RDVMSG_HELLO_MIN 64   /* as long as its answer at least; OPEN, too */
#define RDVMSG_COOKIE    16
#define RDVMSG_KEY       32
#define RDVMSG_SIGNATURE 64
#define RDVMSG_NAMES_MAX 16
#define RDVMSG_TICKET    16
#define RDVMSG_OFFER_MAX 1024
/* Of an allowed key its first bytes stand in ALLOW. */
#define RDVMSG_ALLOWED     8
#define RDVMSG_ALLOWED_MAX 128
#define RDVMSG_ANYONE      1 /* flag of ALLOW */

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
    RDVMSG_ALLOW,
    RDVMSG_ALLOWED_IS,
    RDVMSG_CALL,
    RDVMSG_CALLING,
    RDVMSG_INVITE,
    RDVMSG_ANSWER,
    RDVMSG_ANSWERED,
    RDVMSG_START,
    RDVMSG_OPEN,
    RDVMSG_OPENED,
    RDVMSG_WORKED,
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
    X(RDV_STORAGE, "Storage", "the server cannot reach its disk or its Redis")                     \
    X(RDV_NOT_ALLOWED, "NotAllowed", "the peer does not let this key in")                          \
    X(RDV_NO_RELAY, "NoRelay", "the server relays nothing for this pair")                          \
    X(RDV_UNKNOWN_CHANNEL, "UnknownChannel", "no relay channel has this number and ticket")        \
    X(RDV_DRAINING, "Draining", "the server is about to end and takes no new calls")               \
    X(RDV_UNKNOWN_CALL, "UnknownCall", "this key was not called by that one, or no longer is")     \
    X(RDV_DECLINED, "Declined", "the peer does not take the call")

#define RDV_REASON_ENUM(id, word, sentence) id,
enum rdv_reason { RDV_OK, RDV_REASONS(RDV_REASON_ENUM) RDV_REASON_COUNT };

/* "BadMessage"; "Unknown" for numbers without a word. */
const char *rdv_reason_word(enum rdv_reason reason);
const char *rdv_reason_sentence(enum rdv_reason reason);

/* Only the fields of the type are sent. Slices of a decoded message point into its bytes. */
struct rdvmsg {
    enum rdvmsg_type type;
    uint64_t transaction; /* the asker's; the answer has the same; INVITE, ANSWERED: word */
    uint8_t cookie[RDVMSG_COOKIE]; /* all zero: none */
    uint8_t token[RDVMSG_COOKIE];  /* REGISTERED, REFRESH, REFRESHED */
    uint8_t key[RDVMSG_KEY];       /* whose */
    uint8_t signature[RDVMSG_SIGNATURE];
    uint16_t lifetime_s; /* of the cookie, or of the lease */
    uint16_t refresh_s;  /* how often a lease is to be refreshed */
    uint32_t age_s;      /* FOUND: since the last sign of life */
    uint64_t number;     /* a sequence, or Unix time in seconds */
    uint64_t word;       /* REGISTERED, REFRESHED: what comes unasked will show it */
    enum rdv_reason reason;
    struct addr addr;  /* where the server sees the asker, or the other one; port 0: over TCP */
    struct str name;   /* LOOKUP: empty asks by key */
    struct str record; /* signed; FOUND: empty when nobody is registered */
    struct str names[RDVMSG_NAMES_MAX];
    size_t name_count;
    uint8_t peer[RDVMSG_KEY];      /* calls: the other one's key */
    uint8_t ticket[RDVMSG_TICKET]; /* opens one side of a relay channel */
    uint64_t call;                 /* random; names this attempt */
    uint32_t channel;              /* the receiver's, or opener's, number of it */
    struct nat_print print;        /* CALL, ANSWER: of the sender's NAT */
    uint8_t technique;  /* ANSWERED, START: worked most between two such NATs; WORKED: did */
    uint32_t rtt_us;    /* from the sender to the server and back; 0: not known */
    uint32_t wait_us;   /* fire so long after this has arrived */
    struct addr relay;  /* without a family: this server */
    struct str offer;   /* sealed: not for the server to read */
    uint8_t flags;      /* ALLOW */
    struct str allowed; /* so many times RDVMSG_ALLOWED bytes */
    size_t pad_to;      /* encoding HELLO, LOOKUP, LIST and OPEN: zeros up to this length */
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
