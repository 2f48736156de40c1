#pragma once
/* The messages between a program (its shim, libberth), the command line and berthd, over the
 * control socket, and those that travel on a queue. docs/PROTOCOL.md shows the bytes. One
 * SOCK_SEQPACKET packet is one message; at most one descriptor rides along.
 *
 * On the control socket (each request gets one reply, OK or ERROR, unless said otherwise):
 *   APP      who asks: first on every connection of a program; creates the application or finds it
 *   BIND     claims the address for the application; reply BOUND with the queue's reading end;
 *            ERROR ENOENT: no route is for this port, bind it natively
 *   LISTEN   the queue takes connections from now on; the reply comes when they are taken
 *   UNLISTEN the queue takes no more
 *   WHY      one TEXT, for people: why a bind to this address fails with this error
 *   COMMAND  a verb of the command line with its arguments, and at most one descriptor; any number
 *            of TEXT, then OK, which may bring a descriptor
 *   STOP     berthd and its dispatch end
 *   SOURCE   the streams of peers come from who asks: OK with a socket (wire/streammsg.h)
 * On a queue, from the program to berthd, without a reply:
 *   OPTION   a socket option to set on every connection
 *   CLOSED   the program closed a descriptor of this queue: look who still holds one
 *   LISTEN   as above, from where the control socket cannot be reached
 * On a queue, from dispatch to the program, with the accepted socket:
 *   CONN */

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/fd.h"
#include "base/str.h"

#define APPMSG_MAX         16384
#define APPMSG_ROUTES_MAX  64
#define APPMSG_LISTENS_MAX 8
#define APPMSG_INSTANCE                                                                            \
    16 /* bytes: a random secret; whoever shows it belongs to the application                      \
        */
#define APPMSG_OPTION_MAX 64
#define APPMSG_CONN_MAX   2048

/* In hexadecimal, as environments and files hold it. */
#define APPMSG_INSTANCE_TEXT (2 * APPMSG_INSTANCE + 1)
char *appmsg_instance_format(const uint8_t instance[APPMSG_INSTANCE],
                             char buf[APPMSG_INSTANCE_TEXT]);
/* False for anything but exactly so many digits. */
bool appmsg_instance_parse(struct str text, uint8_t ret_instance[APPMSG_INSTANCE]);

enum appmsg_type {
    APPMSG_APP = 1,
    APPMSG_BIND,
    APPMSG_LISTEN,
    APPMSG_UNLISTEN,
    APPMSG_WHY,
    APPMSG_COMMAND,
    APPMSG_STOP = 8,
    APPMSG_OPTION,
    APPMSG_CLOSED,
    APPMSG_CONN,
    APPMSG_OK,
    APPMSG_ERROR,
    APPMSG_TEXT,
    APPMSG_BOUND,
    APPMSG_SOURCE,
    APPMSG_TYPE_COUNT,
};

enum {
    APPMSG_PROXY = 1,     /* the shared listener expects a PROXY header */
    APPMSG_REUSEPORT = 2, /* the program set SO_REUSEPORT: further binds of the instance share; also
                             set by a program that attaches again after berthd was gone */
    APPMSG_RICH = 4,      /* CONN carries what was sniffed, for libberth */
    APPMSG_NATIVE = 8,    /* no program address: the routes' ports are what is listened on */
    APPMSG_COUNTED = 16,  /* CONN: it has a number (ipc/handed.h) */
    APPMSG_REST = 32,     /* CONN: it has none, and its sender needs a moment to close the socket */
    APPMSG_STREAM = 64,   /* CONN: a peer has dialled it; it came from berth-peer */
};
/* The number's lowest bits are the highest of the flags. */
#define APPMSG_NUMBER_SHIFT 8

/* Only the fields of the type are sent, in this order. Slices of a decoded message point into its
 * bytes. */
struct appmsg {
    enum appmsg_type type;
    uint32_t flags;
    uint8_t instance[APPMSG_INSTANCE];
    struct str name;    /* of the application; COMMAND: the verb */
    struct str command; /* what was started, for people */
    struct str routes[APPMSG_ROUTES_MAX];
    uint8_t route_count;
    struct str listens[APPMSG_LISTENS_MAX]; /* addresses beside the program's own */
    uint8_t listen_count;
    struct addr addr; /* BIND, WHY: the program's; CONN: the peer's */
    bool v6only;
    struct addr local; /* CONN */
    uint32_t queue;
    int32_t level, option; /* OPTION */
    int32_t err;           /* ERROR, WHY: a positive errno */
    uint8_t proto;         /* CONN: enum proto */
    struct str value;      /* OPTION: the bytes */
    struct str text;       /* ERROR, TEXT; BOUND: a notice for people, or empty; COMMAND: the
                              arguments, each ended by a NUL */
    struct str host, path; /* CONN, when RICH */
};

/* Bytes written (positive), or -EMSGSIZE. */
int appmsg_encode(const struct appmsg *m, void *buf, size_t size) WARN_UNUSED;
/* 0, or -EBADMSG for anything but exactly one well-formed message. */
int appmsg_decode(struct appmsg *ret_msg, const void *buf, size_t n) WARN_UNUSED;

/* The abstract name (first byte NUL) that the reading end of a queue is bound to. It tells every
 * process that holds the descriptor, by whatever way it came there, what it stands for. */
struct queue_name {
    struct addr addr; /* what the program bound; AF_INET or AF_INET6 */
    bool v6only;
    uint32_t queue;
    uint32_t nonce; /* of the berthd that made it */
};
void queue_name_format(const struct queue_name *n, struct sockaddr_un *ret_un, socklen_t *ret_len);
/* -EINVAL when the address is not a queue's name. */
int queue_name_parse(const struct sockaddr_un *un, socklen_t len,
                     struct queue_name *ret_name) WARN_UNUSED;
