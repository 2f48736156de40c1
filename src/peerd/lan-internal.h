#pragma once
/* What the files of the local network share. lan.h is for everybody else. */

#include "peerd/lan.h"

#define LAN_INTERFACES_MAX 16

/* Sockets of one family. */
struct lan_sockets {
    struct watch group, own; /* what is said to all; what is said to us */
    int group_fd, own_fd;    /* owned */
    struct lan *lan;
    unsigned joined[LAN_INTERFACES_MAX]; /* indexes of interfaces */
    unsigned joined_count;
};

/* One question that is under way. */
struct lan_asked {
    bool used;
    struct key key;
    uint8_t nonce[LANMSG_NONCE];
    struct timer timer;
    struct lan *lan;
    unsigned sent;
    unsigned found;
    struct addr at[LAN_FOUND_MAX];
    uint8_t bytes[LANMSG_MAX];
};

struct lan {
    struct loop *loop;
    struct lan_host host;
    void *ctx;
    const struct identity *id;
    struct lan_sockets v4, v6;
    struct lan_asked asked[LAN_ASKED_MAX];
    uint64_t second_ms; /* when answers were counted anew */
    unsigned opened, answered;
};

/* lan-socket.c */
int lan_sockets_open(struct lan *l) WARN_UNUSED;
void lan_sockets_close(struct lan *l);
/* On the interfaces that have come since. */
void lan_sockets_join(struct lan *l);
/* To the groups, on every interface. */
void lan_sockets_say(struct lan *l, const void *bytes, size_t n);
void lan_sockets_answer(struct lan *l, const struct addr *to, const void *bytes, size_t n);

/* lan.c: a datagram that came, to a group or to us. */
void lan_input(struct lan *l, const struct addr *from, const void *bytes, size_t n);
