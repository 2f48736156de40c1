#pragma once
/* The service manager, when there is one: told how we are, and asked to keep what must outlive
 * berthd and dispatch together. Without one every call does nothing. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/fd.h"
#include "loop/loop.h"
#include "wire/dispatchmsg.h"

struct server;
struct rd;
struct wr;

/* A note in a memory file that the service manager keeps beside the descriptors of one item. */
struct systemd_notes {
    int *fds; /* owned, by number; -EBADF: not stored */
    size_t count;
};

struct systemd_item {
    uint32_t id;
    char kind; /* 'q', 'l' */
    int fd;    /* owned */
};

struct systemd {
    int fd; /* owned; -EBADF: no service manager */
    struct sockaddr_un to;
    socklen_t to_len;
    bool stores;   /* it keeps descriptors */
    pid_t manager; /* and so holds each queue, but takes nothing from it; 0: there is none */
    uint32_t watchdog_ms;
    struct timer watchdog;
    struct server *server;
    struct systemd_notes queues, listeners;
    /* What it gave us at the start, until it is taken. */
    int control; /* owned */
    struct systemd_item *items;
    size_t item_count;
};

void systemd_init(struct server *s);
/* A message as of sd_notify(3). */
void systemd_tell(struct server *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* READY, after a start or a change. */
void systemd_ready(struct server *s);
/* RELOADING, before a change. */
void systemd_reloading(struct server *s);
/* Has the manager keep a queue or a listener, or, when it does, the newer note about it. */
void systemd_store(struct server *s, const struct dispatchmsg *m, const int *fds, size_t fd_count);
void systemd_forget(struct server *s, enum dispatchmsg_type type, uint32_t id);
/* What was kept comes back as binds and listeners. With a dispatch that has them still
 * (`have` true) only the notes are taken up again. */
void systemd_restore(struct server *s, bool have);
/* For a handover: notes one by one, `at` counts from 0; false at the end. */
bool systemd_save(struct server *s, size_t *at, struct wr *w);
int systemd_saved(struct server *s, struct rd *r);
