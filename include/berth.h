/* libberth: take connections from a shared port.
 *
 * berth opens a port once, looks at the first bytes of each connection without consuming them, and
 * hands the accepted socket itself to the program that owns the name. A program that uses this
 * library asks for a name and gets such sockets, with the client's own address and what was seen of
 * its first request:
 *
 *     struct berth *b = berth_new();
 *     if (berth_attach(b, "http://blog.localhost:8080/", 0) < 0)
 *         errx(1, "%s", berth_reason(b));
 *     for (;;) {
 *         int fd = berth_accept(b, NULL, 0);
 *         ...
 *     }
 *
 * Errors are negative errno values; errno itself is not meant to be read.
 *
 * Threads: different handles are independent. On one handle any number of threads may be inside
 * berth_accept() at the same time; every other call on it must be alone. Nothing here may be called
 * from a signal handler.
 *
 * Processes: a handle works in the children of a fork(), too, as a listening socket does: all of
 * them take from the same queue, and berth_free() in one takes nothing from the others. Fork while
 * no other thread is inside a call. All descriptors are close-on-exec. */
#ifndef BERTH_H
#define BERTH_H

#include <stddef.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BERTH_API __attribute__((visibility("default")))
#else
#define BERTH_API
#endif

/* A name, and the queue of its accepted connections. */
struct berth;

/* Flags of berth_attach(). */
enum {
    BERTH_NOWAIT = 1,   /* berth_accept() never waits: -EAGAIN instead */
    BERTH_PROXY = 2,    /* the port stands behind a load balancer that sends PROXY headers; the
                           header is looked through and left for the program to read */
    BERTH_NO_START = 4, /* do not start berthd when none is running: -ENOENT */
    BERTH_NO_ADOPT = 8  /* take no queue from the environment: always claim the routes */
};

/* Flags of berth_accept(). */
enum {
    BERTH_NONBLOCK = 1 /* the socket gets O_NONBLOCK */
};

#define BERTH_PROTOCOL_SIZE 16
#define BERTH_HOST_SIZE     256
#define BERTH_PATH_SIZE     1032

/* What is known of an accepted connection. Set `size` to sizeof(struct berth_conn) before the first
 * use; later versions append members, and no more than `size` bytes are ever written.
 *
 * The texts end with a NUL. They are what the first bytes of the connection said, and empty when
 * nothing was looked at (a program alone on its port gets its connections at once), when the
 * connection waited for room in the queue, or when the protocol has no such thing. They come from
 * the client: the program must read its request anyway, and later requests on the same connection
 * may name another host. */
struct berth_conn {
    size_t size;
    struct sockaddr_storage peer;  /* the client; AF_UNSPEC when unknown */
    struct sockaddr_storage local; /* the address that it connected to */
    socklen_t peer_len;            /* bytes that are in use; 0 when unknown */
    socklen_t local_len;
    char protocol[BERTH_PROTOCOL_SIZE]; /* "http", "h2", "tls", "ssh", "socks", "rdp", "postgres",
                                           "redis", "mqtt", "xmpp" or "" */
    char host[BERTH_HOST_SIZE];         /* Host, :authority or SNI: lower case, without the port */
    char path[BERTH_PATH_SIZE]; /* http, h2: without the query, normalised; "" when it is longer */
};

/* Makes a handle that holds no name yet. NULL when memory or descriptors are short. The caller owns
 * it and gives it to berth_free(). */
BERTH_API struct berth *berth_new(void);

/* Gives everything back; NULL is allowed. The name goes with the last process that has the handle.
 */
BERTH_API void berth_free(struct berth *b);

/* What `berth ls` calls the program: 1 to 64 printable characters, copied. Before berth_attach();
 * without it, the name of the program's file. Returns 0, -EINVAL, or -EISCONN when attached. */
BERTH_API int berth_set_name(struct berth *b, const char *name);

/* Claims a route, or several with blanks between them. Each names its port, but for peer://web,
 * which peers dial and no port is opened for:
 *
 *     http://blog.localhost:8080/   http://blog.localhost:8080/api/   tls://db.example:5432
 *     ssh://:2222                   any://:8080
 *
 * The ports are opened on the loopback addresses when every host of the routes ends in .localhost,
 * and on all addresses otherwise. When no berthd of this user is running, one is started, and ends
 * by itself when nobody needs it any more.
 *
 * A program that was started by `berth run --queue --as ROUTE -- PROGRAM` has a queue already
 * (LISTEN_FDS, with "berth" in LISTEN_FDNAMES): that is taken, and `route` is not looked at; it may
 * then be NULL. Such a queue is taken once; a second handle claims its own routes.
 *
 * Waits for berthd, at most for some seconds. Returns 0 when connections are being taken. Else the
 * handle is as before, berth_reason() says why in a sentence, and the value is one of
 *   -EADDRINUSE  the route belongs to another program (the reason names it), or the port does
 *   -EACCES      the port may not be opened by this user
 *   -EINVAL      this is no route, or it names no port; or unknown flags
 *   -EISCONN     the handle is attached already
 *   -ENOENT      there is no berthd and none can be started; or no route and nothing to take over
 *   -EPERM       this berthd belongs to another user
 *   -ETIMEDOUT   berthd does not answer
 * or another errno. */
BERTH_API int berth_attach(struct berth *b, const char *route, unsigned flags);

/* Gives the name back. Connections that nobody has accepted go to a program of the same name and
 * routes that comes within seconds, or are refused; those that were accepted are not touched. 0, or
 * -ENOTCONN when the handle is not attached. The handle can be attached again. A process that
 * shares the handle with others since a fork() uses berth_free() instead: after this call the
 * others' berth_fd() would stay silent. */
BERTH_API int berth_detach(struct berth *b);

/* A descriptor for poll(), select() and epoll, level- or edge-triggered: it is readable when
 * berth_accept() has something to do. It is the same one from berth_new() to berth_free(), whatever
 * happens to berthd; it belongs to the handle: nothing but waiting may be done with it. */
BERTH_API int berth_fd(const struct berth *b);

/* Takes the next connection. Returns its socket, close-on-exec and owned by the caller; it blocks
 * unless BERTH_NONBLOCK is in flags, and no byte of it has been read. `conn` is filled when it is
 * not NULL. Without a connection it waits, or with BERTH_NOWAIT returns -EAGAIN; a descriptor that
 * was readable is no promise, since another thread or process may have been faster.
 *
 * When berthd and its dispatch are both gone, connections that were queued still come out, and then
 * the handle attaches again by itself as soon as a berthd runs: a program that waits for berth_fd()
 * and calls this function has nothing else to do. (berthd is not started again from here: whoever
 * stopped it may have wanted that.) Each call may take some milliseconds then.
 *
 * Other values:
 *   -EADDRINUSE  another program took the route while berthd was away: see berth_reason(). The next
 *                call tries again, once a second
 *   -EINTR       a signal came while it waited
 *   -EINVAL      conn->size is not set, or unknown flags
 *   -EMFILE, -ENFILE  no descriptor is left; the connection stays in the queue
 *   -ENOTCONN    the handle is not attached
 *   -EPIPE       the queue has ended, and is one that only `berth run` could make again */
BERTH_API int berth_accept(struct berth *b, struct berth_conn *conn, unsigned flags);

/* Why berth_set_name(), berth_attach() or berth_detach() failed, or berth_accept() with
 * -EADDRINUSE: for people, one or two lines without a final newline. After a berth_attach() that
 * succeeded: a notice, as that later requests on a connection stay with the program that got the
 * first; or "". Never NULL. It lives until the next call on the handle. */
BERTH_API const char *berth_reason(const struct berth *b);

#define BERTH_KEY_SIZE  57
#define BERTH_NAME_SIZE 41

/* Who dialled a connection that a peer's session brought: see berth_peer(). Set `size` to
 * sizeof(struct berth_peer) before the first use, as for struct berth_conn. */
struct berth_peer {
    size_t size;
    char key[BERTH_KEY_SIZE];   /* the peer's public key, as `berth key show` prints it: proven */
    char name[BERTH_NAME_SIZE]; /* by which this user knows the key; "" when by none */
    char service[BERTH_NAME_SIZE]; /* what the peer dialled */
};

/* Who is at the other end of a connected socket, however the program came by it: a program that
 * `berth run` started gets its sockets by accept(), and asks by this. It needs no handle and may be
 * called from any thread. It asks berth-peer, which holds the session, and waits at most some
 * seconds; for a socket that no peer has dialled it asks nobody. While the connection is open the
 * answer does not change. Returns 0, or
 *   -ENOENT    no peer has dialled it, or berth-peer does not know it any more
 *   -EINVAL    peer->size is not set
 *   -EBADF, -ENOTSOCK, -ENOTCONN  this is no connected socket
 *   -ETIMEDOUT berth-peer does not answer
 * or another errno. */
BERTH_API int berth_peer(int fd, struct berth_peer *peer);

/* The same by the address that accept() or getpeername() gave, for programs that have no more than
 * that. Other users of the machine can connect from the same address: a program that they can reach
 * by another way than through a peer asks by the socket. */
BERTH_API int berth_peer_at(const struct sockaddr *address, socklen_t size,
                            struct berth_peer *peer);

#ifdef __cplusplus
}
#endif

#endif
