#pragma once
/* libberth-preload.so: the library that `berth run` loads into a program. When the program binds a
 * TCP port, its socket is exchanged for the reading end of a queue, a SOCK_SEQPACKET socket on
 * which accepted connections arrive; listen, accept, getsockname and the rest are answered so that
 * the program sees the listening socket that it asked for.
 *
 * What a descriptor is, is written in the descriptor: a queue is bound to an abstract name that
 * parses (queue_name_parse), and has SO_PRIORITY 5 once it listens. So fork, exec, dup and passing
 * need no tracking. Everything that a process remembers besides (table.c) is a hint: it makes the
 * usual path one system call, and is looked up again when it proves wrong.
 *
 * Hooks run between vfork and exec, in signal handlers and in threads that get cancelled: they take
 * no lock and no heap, and keep errno on success. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/fd.h"
#include "base/str.h"
#include "launch/preload/real.h"
#include "wire/appmsg.h"

#define EXPORT __attribute__((visibility("default")))

/* berthd sets this SO_PRIORITY on the reading end of a queue that listens. */
#define QUEUE_LISTENING_PRIORITY 5

/* env.c: what `berth run` put into the environment, copied while it was intact. */
#define ENV_VARS_MAX 9
struct env {
    struct sockaddr_un control;
    uint8_t hello[APPMSG_MAX]; /* the encoded APP message */
    size_t hello_size;
    const char *ports; /* NULL: all */
    uid_t user;        /* who started the program */
    bool chosen;       /* the runtime folder was chosen by hand, and may be another user's */
    char *vars[ENV_VARS_MAX + 1];
};
/* NULL in a program that was not started by `berth run`: then every hook just calls libc. */
const struct env *env_get(void);
bool env_shares_port(const struct env *env, uint16_t port);

/* say.c: lines on the program's standard error, each behind "berth: ". errno is kept. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void say_text(struct str text);

/* control.c: questions to berthd. */
#define CONTROL_REPLY_MAX 8192
struct control_reply {
    struct appmsg msg; /* its slices point into bytes */
    int fd;            /* owned by the caller; -EBADF when none came */
    uint8_t bytes[CONTROL_REPLY_MAX];
};
/* A connection on which berthd knows who asks. Negative errno when it cannot be had. */
int control_open(void) WARN_UNUSED;
/* Sends m, waits for the one reply. 0 for any well-formed reply, ERROR included. */
int control_ask(int control, const struct appmsg *m, struct control_reply *ret_reply) WARN_UNUSED;
/* Opens, asks, closes. A reply's descriptor is dropped. */
int control_ask_once(const struct appmsg *m, struct control_reply *ret_reply) WARN_UNUSED;
/* One message and the descriptor that rides along (-EBADF when none). Returns its size, 0 at the
 * end, or a negative errno: -EMFILE when a descriptor came that the process had no room for. */
ssize_t packet_receive(int fd, void *buf, size_t size, int flags, int *ret_fd) WARN_UNUSED;

/* table.c: what this process remembers. */
enum {
    HINT_QUEUE = 1, /* the descriptor was a queue when last seen */
    HINT_V6 = 2,    /* of an AF_INET6 address */
    HINT_SHUT = 4,  /* the program called shutdown() */
    HINT_WATCH = 8, /* the queue is gone; readable when it is worth a try to get it back */
};
uint8_t hint_get(int fd);
void hint_set(int fd, uint8_t hint);
/* Drops all that is remembered about the descriptor. */
void hint_forget(int fd);
/* The next descriptor with a hint at or after fd, or -1. */
int hint_next(int fd);
/* Are we in a child of vfork(), whose memory is its parent's? */
bool memory_is_borrowed(void);

enum note_kind { NOTE_EPOLL, NOTE_OPTION, NOTE_WATCH };
struct note {
    enum note_kind kind;
    int fd;                   /* EPOLL, WATCH: the queue's descriptor; OPTION: -1 */
    struct addr addr;         /* OPTION, WATCH: what the program bound */
    int a, b;                 /* EPOLL: the epoll set, 0; OPTION: level, option; WATCH: 0, 0 */
    bool v6only, listening;   /* WATCH */
    struct epoll_event event; /* EPOLL */
    uint8_t value[APPMSG_OPTION_MAX], size; /* OPTION */
};
/* Replaces the note with the same kind, fd, addr, a and b. Forgets it when there is no room. */
void note_put(const struct note *n);
void note_drop(const struct note *n);
/* Fills *n with the next note of its kind, fd and addr and moves the cursor (0 at first). */
bool note_next(struct note *n, size_t *cursor);

/* queue.c: descriptors that stand for a listening socket. */
/* Is this descriptor one? Corrects the hint. errno is kept. */
bool queue_find(int fd, struct queue_name *ret_name);
bool queue_is_listening(int fd);
bool queue_is_dead(int fd);
/* Puts newfd, which it consumes, in the place of fd, with fd's flags. 0 or a negative errno. */
int queue_swap(int fd, int newfd, uint8_t hint) WARN_UNUSED;
void queue_send(int fd, const struct appmsg *m);
/* The program is about to close fd: tell berthd, forget it. */
void queue_closing(int fd);

/* claim.c */
enum claim_result { CLAIM_DONE, CLAIM_REFUSED, CLAIM_NOT_SHARED, CLAIM_UNREACHABLE };
struct claim {
    struct addr addr;
    bool v6only;
    bool again;     /* berthd was gone: others of the program may have been here before */
    bool listening; /* it was, or is to be */
    int queue;      /* the reading end, owned by the caller, when done */
    int err;        /* positive errno, when not done */
};
enum claim_result claim_make(struct claim *c);

/* option.c */
/* Remembers the options of a socket that is about to be bound to addr. */
void options_collect(int fd, const struct addr *addr);
/* Sends those that connections inherit, and sets those that concern accept() itself. */
void options_apply(int queue, const struct addr *addr);
bool options_has(const struct addr *addr, int level, int option);
/* A fresh TCP socket with the options that the program gave to the queue, or a negative errno. */
int standin_open(const struct queue_name *name) WARN_UNUSED;

/* reattach.c */
/* The queue of fd is at its end: gets one from a new berthd, or makes fd wait for that. 0 for
 * either, or a negative errno. */
int reattach(int fd, bool listening) WARN_UNUSED;
/* Waits on a descriptor with HINT_WATCH as accept() would: 0 after a try, -EAGAIN, -EINTR. */
int reattach_wait(int fd) WARN_UNUSED;
