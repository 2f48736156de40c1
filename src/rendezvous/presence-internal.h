#pragma once
/* What the files of the machine share. presence.h is for everybody else. */

#include "base/list.h"
#include "rendezvous/presence.h"
#include "rendezvous/sealed.h"
#include "rendezvous/signed.h"

#define MS 1000ull
#define S  1000000ull

/* A question is sent again after 0.25, 0.5, 1, 2, 2 s and given up after 2 more; a call, to a
 * server whose round trip is known, first after half as much again as that and what a busy host
 * takes. */
#define QUESTION_TRIES      6
#define QUESTION_FIRST_US   (250 * MS)
#define QUESTION_MOST_US    (2 * S)
#define QUESTION_MARGIN_US  (30 * MS)
#define QUESTION_NEAREST_US (40 * MS)

#define RTTS 4

/* One question that is under way. Each copy has a transaction number of its own, so that the round
 * trip is known whichever of them is answered. All are random: a server that could answer a copy
 * before it has come would seem to be near. */
struct question {
    struct {
        uint64_t transaction, sent_us;
    } copies[QUESTION_TRIES];
    uint64_t at_us;    /* when the next copy is due; PRESENCE_NEVER: no question is under way */
    uint64_t first_us; /* between the first two copies; then twice as long each time */
    unsigned sent;
};

enum question_step { QUESTION_WAIT, QUESTION_SEND, QUESTION_LOST };

struct server {
    enum presence_state state;
    struct question q;     /* HELLO, REGISTER or REFRESH */
    struct question allow; /* ALLOW */
    uint8_t cookie[RDVMSG_COOKIE], token[RDVMSG_COOKIE];
    bool cookie_known, token_good, word_known, silent;
    uint64_t word;           /* what it shows in what comes unasked */
    uint64_t passed_over;    /* what came unasked in its name without that */
    unsigned rounds;         /* COOKIE in answer to REGISTER, in a row */
    unsigned failures;       /* in a row */
    uint64_t next_us;        /* REGISTERED: the next refresh; WAITING: the next attempt */
    uint64_t login_sequence; /* of the record that was shown last */
    uint64_t login_us;       /* when it was taken */
    uint64_t registered_us, heard_us;
    uint32_t rtts_us[RTTS]; /* the last ones, from one network */
    unsigned rtt_count;
    uint32_t rtt_us;        /* the least of them: what is more was waiting somewhere */
    uint32_t allow_sent;    /* version of the list that was told last */
    uint32_t allow_version; /* of the list that is there; 0: none */
    uint16_t lease_s, refresh_s;
    enum rdv_reason reason;
    struct addr seen;
};

struct asked {
    struct question q;
    bool over; /* answered, or given up */
    unsigned rounds;
};

struct lookup {
    struct list link;
    bool ended; /* freed at the next tick */
    char name[RECORD_NAME_MAX];
    size_t name_n;
    struct key key;
    void *user;
    uint64_t until_us; /* 0: to be set at the first tick, which knows the time */
    struct asked at[PRESENCE_SERVERS_MAX];
    enum rdv_reason reason; /* of those that refused */
    struct presence_found best;
    uint32_t best_server; /* whose word about the key counts: the first of all */
    uint8_t record[RECORD_MAX];
};

struct call {
    struct list link;
    bool ended;
    uint64_t number;
    struct key callee;
    uint32_t untried; /* servers */
    uint32_t server;  /* PRESENCE_NO_SERVER: to be chosen */
    void *user;
    struct question q;
    uint64_t until_us; /* 0: to be set at the first tick */
    enum rdv_reason reason;
    bool calling, answered;
    struct presence_channel channel;
    uint8_t offer[SEALED_OFFER_MAX];
    size_t offer_n;
};

struct invite {
    struct list link; /* oldest first */
    uint64_t number;
    struct key caller;
    uint32_t server;
    struct presence_channel channel;
    bool answered;
    enum rdv_reason reason;
    uint64_t transaction;
    uint64_t start_us; /* the last START */
    uint64_t again_us; /* without one the answer is sent again then */
    uint64_t told_us;  /* when it was sent last */
    unsigned copies;
    uint8_t offer[SEALED_OFFER_MAX];
    size_t offer_n;
};

struct channel {
    struct list link;
    bool ended;
    struct presence_channel is;
    struct question q;
    uint64_t next_us; /* when it is to be opened again */
    uint8_t cookie[RDVMSG_COOKIE];
    unsigned rounds;
    bool open; /* was reported as such */
};

struct presence {
    struct presence_host host;
    void *ctx;
    const struct identity *id;
    uint64_t now_us;
    uint32_t server_count;
    struct server servers[PRESENCE_SERVERS_MAX];
    struct record record;      /* what it is to say; slices point into `words` */
    uint8_t words[RECORD_MAX]; /* that record, without a signature */
    uint8_t bytes[RECORD_MAX]; /* signed */
    size_t size;               /* 0: to be signed */
    uint64_t floor;            /* sequences are above it */
    uint64_t sign_at_ms;       /* Unix time */
    uint8_t allowed[PRESENCE_ALLOW_MAX * RDVMSG_ALLOWED];
    size_t allowed_n; /* bytes */
    bool anyone;
    uint32_t allow_version; /* 0: none was ever given */
    uint64_t keep_us;       /* 0: not known */
    struct list lookups, calls, invites, channels;
    unsigned lookup_count, call_count, invite_count, channel_count;
    struct nat_print print; /* of our NAT */
    struct {
        uint64_t number;
        struct key callee;
        uint32_t server;
        uint8_t told;           /* a bit for each technique */
    } made[PRESENCE_CALLS_MAX]; /* the last calls of ours, for what worked */
    unsigned made_next;
    uint64_t invites_us; /* when the budget of invitations was counted last */
    unsigned invites_left;
};

/* presence.c */
uint64_t presence_random(void);
/* The shorter of this and what the NAT allows. */
uint64_t presence_keep_us(const struct presence *p, uint64_t us);
/* Between `us` and three quarters of it, so that many peers do not come at once. */
uint64_t presence_jitter(uint64_t us);
void question_start(struct question *q, uint64_t now_us);
/* The same, repeated by what the way to its server takes (0: not known). */
void question_start_near(struct question *q, uint64_t now_us, uint32_t rtt_us);
uint64_t question_repeat_us(uint32_t rtt_us);
void question_stop(struct question *q);
bool question_open(const struct question *q);
/* Of the copy that is sent now. */
uint64_t question_transaction(const struct question *q);
/* Counts the copy that is to be sent now. After QUESTION_LOST the question is stopped. */
enum question_step question_due(struct question *q, uint64_t now_us);
bool question_is(const struct question *q, const struct rdvmsg *m);
void presence_send(struct presence *p, const struct presence_way *way, struct rdvmsg *m);
void presence_send_to(struct presence *p, uint32_t server, struct rdvmsg *m);
/* "Try again after": between a second and two minutes. */
uint64_t presence_again_us(const struct rdvmsg *m);
/* An answer came to a question: its server lives. */
void presence_heard(struct presence *p, uint32_t server);
/* The same, from what the server has in memory: so the round trip is known. */
void presence_heard_at_once(struct presence *p, uint32_t server, const struct question *q,
                            const struct rdvmsg *m);

/* presence-record.c: 0 or negative errno. */
int presence_sign(struct presence *p);
/* The same, with a sequence above this one. False: no sequence can be above it. */
bool presence_sign_above(struct presence *p, uint64_t sequence);

/* Each part: what is due; and a message, where true means that it was for this part. */
uint64_t presence_server_run(struct presence *p, uint32_t server);
bool presence_server_input(struct presence *p, uint32_t server, const struct rdvmsg *m);
/* BadToken in answer to anything: logs in anew. */
void presence_token_bad(struct presence *p, uint32_t server);
/* What is due later than the NAT allows is due when it does. */
void presence_servers_hurry(struct presence *p);
void presence_cookie(struct presence *p, uint32_t server, const struct rdvmsg *m);
void presence_server_again(struct presence *p, uint32_t server);

uint64_t presence_lookups_run(struct presence *p);
bool presence_lookup_input(struct presence *p, uint32_t server, const struct rdvmsg *m);
void presence_lookups_free(struct presence *p);

uint64_t presence_calls_run(struct presence *p);
uint64_t presence_invites_run(struct presence *p);
bool presence_call_input(struct presence *p, const struct presence_way *way,
                         const struct rdvmsg *m);
void presence_calls_free(struct presence *p);

/* Unasked; says whether it came from the server, and counts it if not. */
bool presence_word_good(struct presence *p, uint32_t server, const struct rdvmsg *m);

void presence_invite_input(struct presence *p, const struct presence_way *way,
                           const struct rdvmsg *m);
bool presence_answer_input(struct presence *p, uint32_t server, const struct rdvmsg *m);
void presence_start_input(struct presence *p, uint32_t server, const struct rdvmsg *m);
void presence_invites_free(struct presence *p);

uint64_t presence_channels_run(struct presence *p);
bool presence_channel_input(struct presence *p, uint32_t server, const struct rdvmsg *m);
/* From CALLING or INVITE. */
struct presence_channel presence_channel_from(const struct presence_way *way,
                                              const struct rdvmsg *m);
void presence_channel_keep(struct presence *p, const struct presence_channel *c);
/* The relay does not know it, or not from where we are: it is opened anew at once. */
void presence_channel_unknown(struct presence *p, uint32_t server, uint32_t number);
/* Opens all channels of this server anew. */
void presence_channels_again(struct presence *p, uint32_t server);
void presence_channels_hurry(struct presence *p);
void presence_channels_free(struct presence *p);
