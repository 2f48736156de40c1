#pragma once
/* What berth-peer and dispatch say to each other on a source, which is a SOCK_SEQPACKET pair that
 * berthd makes (APPMSG_SOURCE). One packet is one message. docs/PROTOCOL.md shows the bytes.
 *
 *   berth-peer → dispatch   STREAM with one descriptor: a TCP socket that it has accepted at
 *                           STREAMMSG_IP, blocking, without a byte read, whose other end is
 *                           berth-peer's. Who dialled whom
 *                           CLOSED: its own copies of all sockets sent so far are closed. Only then
 *                           they are delivered: a program that closes its copy must be the last
 *   dispatch → berth-peer   ANSWER, one for each STREAM, in their order: taken, or why not */

#include <stdbool.h>
#include <stdint.h>

#include "base/fd.h"
#include "base/str.h"
#include "wire/name.h"

#define STREAMMSG_MAX 256
#define STREAMMSG_KEY 32

/* The address at which berth-peer accepts its own connections: the local one of every socket that
 * it hands over. By it streams are told from other connections of a program (launch/opencount.h).
 */
#define STREAMMSG_IP ((const uint8_t[]){127, 7, 7, 7})
/* Handed over and not delivered yet, of one source. */
#define STREAMMSG_HELD_MAX 32

enum streammsg_type {
    STREAMMSG_STREAM = 1,
    STREAMMSG_ANSWER,
    STREAMMSG_CLOSED,
    STREAMMSG_TYPE_COUNT,
};

enum {
    /* ANSWER: the program expects a PROXY header (version 2, with the parts of wire/proxy.h) in
     * front of the stream. */
    STREAMMSG_PROXY = 1,
};

struct streammsg {
    enum streammsg_type type;
    uint32_t id; /* chosen by who sends the STREAM; its ANSWER has the same. CLOSED: not used */
    uint8_t flags;
    uint8_t key[STREAMMSG_KEY]; /* STREAM: of the peer that dialled */
    struct str service;         /* STREAM: what it dialled */
    struct str name;            /* STREAM: of the peer, where it is known by one; may be empty */
    uint8_t result;             /* ANSWER: 0: taken (delivered, or waiting for a worker); else
                                   enum reason (share/reason.h) */
};

/* Bytes written (positive), or -EMSGSIZE. */
int streammsg_encode(const struct streammsg *m, void *buf, size_t size) WARN_UNUSED;
/* 0, or -EBADMSG for anything but exactly one well-formed message. Slices point into buf. */
int streammsg_decode(struct streammsg *ret_msg, const void *buf, size_t n) WARN_UNUSED;
