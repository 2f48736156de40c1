#pragma once
/* What is known of a path between two peers, in words for people, and what its owner could change.
 * Pure: tables. */

#include "punch/punch.h"

#define NAT_WORDS_MAX 160
#define ADVICE_MAX    8
#define ADVICE_TEXT   240

/* "another port for each address and port, at random; lets in only who was written to". */
const char *nat_describe(const struct nat *nat, char buf[NAT_WORDS_MAX]);
/* What the checks do besides checking. */
const char *plan_describe(enum guess_plan plan);

enum advice_way { ADVICE_NOT_YET, ADVICE_RELAY, ADVICE_TCP, ADVICE_DIRECT };

/* What is known of the router that could map a port. */
enum advice_map {
    ADVICE_MAP_NOTHING, /* it is not known, or not needed */
    ADVICE_MAP_OFF,
    ADVICE_MAP_NO_GATEWAY,
    ADVICE_MAP_MAPPED,
    ADVICE_MAP_USELESS,
    ADVICE_MAP_REFUSED,
    ADVICE_MAP_SILENT,
    ADVICE_MAP_END
};

struct advice_facts {
    struct nat own, peer;
    bool with_peer; /* false: only of our own side */
    enum advice_way way;
    bool over; /* the last attempt has ended */
    enum punch_reason reason;
    enum advice_map map;
    bool udp_blocked; /* here */
    bool asked;       /* servers have said all that they can about the own NAT */
    bool peer_maps;   /* the other side offers a mapped port */
    bool no_guessing; /* one of the two allows no guesses */
    bool own_v6, peer_v6;
    uint16_t port;        /* of ours */
    const char *gateway;  /* the router's address; may be empty */
    const char *external; /* what the router maps to; may be empty */
};

struct advice {
    const char *word; /* for programs */
    char text[ADVICE_TEXT];
};

/* The best first; how many. */
size_t advice_give(const struct advice_facts *f, struct advice ret[ADVICE_MAX]);
