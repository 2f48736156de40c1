#pragma once
/* Names owned by users: reservations, and what a local user may claim of the system's berthd.
 *
 *   reserve-table.c   the table: which reservation covers a route
 *   reserve.c         who may claim what, and who may reserve what
 *   reserve-conf.c    what the configuration says of both
 *   reserve-store.c   the file that keeps what was reserved by command
 *   reserve-refuse.c  a name that is reserved and not served answers for itself
 *   reserve-command.c the verbs
 *   quota.c           how much one local user may hold */

#include "berthd/command.h"
#include "berthd/reserve-table.h"
#include "berthd/server.h"

/* Who may claim what nobody reserved. */
enum unreserved {
    UNRESERVED_LOCALHOST, /* any user: *.localhost on loopback; all else is root's */
    UNRESERVED_ANYONE,    /* any user: any name at any address, from port 1024 on */
    UNRESERVED_ROOT,
    UNRESERVED_COUNT,
};

struct reserve {
    struct reserve_table table;
    enum unreserved unreserved;
    bool chosen;     /* the policy, on the command line: the configuration does not change it */
    bool stale;      /* listeners, claims or reservations have changed since the last COMMIT */
    bool recovering; /* what a dead berthd had admitted stays */
    bool damaged;    /* the file was not understood whole: it is not overwritten */
    char path[256];  /* of the file */
};

/* One of the configuration's. */
struct reserve_entry {
    struct route route;
    uid_t uid;
    bool delegate;
    uint16_t status; /* 0: the usual one */
};

/* reserve.c */
/* Reads the file. A file that cannot be read or understood is complained about, once. */
int reserve_start(struct server *s) WARN_UNUSED;
/* These, and no others, come from the configuration. -ENOMEM, -ENOSPC: those before them stay, too.
 */
int reserve_set_configured(struct server *s, const struct reserve_entry *entries,
                           size_t count) WARN_UNUSED;
void reserve_set_unreserved(struct server *s, enum unreserved u);
/* -EINVAL for a word that is none. */
int reserve_unreserved_parse(const char *word, enum unreserved *ret_unreserved) WARN_UNUSED;
const char *reserve_unreserved_name(enum unreserved u);
/* May this user introduce an application with this route, whose port may not be known yet? 0, or
 * -EACCES with the owner's name. */
int reserve_admit_route(struct server *s, const struct route *r, uid_t uid,
                        char reason[REASON_MAX]) WARN_UNUSED;
/* May the bind's application claim the route (its port filled in) at this address? */
int reserve_admit_claim(const struct bind *b, const struct route *r, const struct addr *bound,
                        char reason[REASON_MAX]) WARN_UNUSED;
/* May this user reserve the route, or take its reservation away? */
int reserve_admit_change(struct server *s, const struct route *r, uid_t uid,
                         char reason[REASON_MAX]) WARN_UNUSED;

/* reserve-conf.c: at the start, and with each reload */
struct conf;
void reserve_from_conf(struct server *s, const struct conf *c);

/* reserve-store.c */
void reserve_store_read(struct reserve *v);
/* Writes all but the configured ones and `except`. On failure the file is as it was. */
int reserve_store_write(const struct reserve *v, const struct reservation *except) WARN_UNUSED;

/* reserve-refuse.c */
/* Before a COMMIT: claims that refuse follow listeners, claims and reservations. */
void reserve_refuse_update(struct server *s);
/* A dispatch that knows nothing is told them all. */
void reserve_refuse_tell(struct server *s);
void reserve_refuse_forget(struct server *s, struct reservation *r);
void reserve_refuse_listener_gone(struct server *s, const struct shared_listener *l);

/* reserve-command.c: see command.c */
int reserve_command_add(struct server *s, struct command_ask *ask, struct command_answer *answer);
int reserve_command_delete(struct server *s, struct command_ask *ask,
                           struct command_answer *answer);
int reserve_command_list(struct server *s, struct command_ask *ask, struct command_answer *answer);
int reserve_command_covers(struct server *s, struct command_ask *ask,
                           struct command_answer *answer);
