#pragma once
/* How often a path that is idle wants a packet, so that no NAT forgets it: src/punch/lifetime on
 * two sockets of its own, in the background, once for each network; and who is told of it. */

#include "loop/loop.h"
#include "punch/lifetime.h"

struct net;
struct keeping;

struct keeping_socket {
    struct keeping *keeping;
    enum lifetime_socket which;
    int fd; /* owned; -EBADF: closed */
    struct watch watch;
};

struct keeping {
    struct net *net;
    struct lifetime *machine; /* owned; NULL: not under way */
    struct keeping_socket sockets[LIFETIME_SOCKETS];
    struct timer timer;
    struct addr server;            /* that is asked */
    struct addr seen;              /* of us, by the server, when it was begun */
    struct lifetime_result result; /* of this network */
    uint32_t asked;                /* servers, on this network */
    uint32_t at;                   /* the last of them */
    uint64_t again_ms;             /* not before */
    uint32_t told_ms;              /* the interval that presence was told; 0: none */
};

void keeping_init(struct keeping *k, struct net *n);
void keeping_done(struct keeping *k);
/* Begins when something is to be kept, a server is there, and it is not known yet. To be called now
 * and then. */
void keeping_look(struct keeping *k);
/* The servers have other numbers now, and know nothing of it. */
void keeping_servers_changed(struct keeping *k);
/* What is known was known of another network. */
void keeping_network_changed(struct keeping *k);
/* 15 s when nothing is known; while it is measured, and then, between 5 and 110. */
uint32_t keeping_interval_ms(const struct keeping *k);
/* "unknown", "measuring", "measured" or "impossible". */
const char *keeping_word(const struct keeping *k);
