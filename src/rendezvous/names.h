#pragma once
/* Which key holds which name: all of it in memory for those who ask, and in SQLite for keeps.
 * Asking is for any thread. Changing is a job for a thread of the store's own, so that nobody who
 * serves waits for a disk. Where names are kept in Redis instead, asking is a job, too. */

#include <pthread.h>

#include "base/addr.h"
#include "base/list.h"
#include "rendezvous/place.h"
#include "wire/rdvmsg.h"
#include "wire/record.h"

/* In memory ---------------------------------------------------------------- */

struct names;

struct names *names_new(size_t names_max);
void names_free(struct names *n);
/* False when nobody holds it. */
bool names_find(struct names *n, struct str name, uint8_t ret_key[RDVMSG_KEY], uint64_t *ret_since);
/* Adds it or gives it to another key. -ENOMEM. */
int names_put(struct names *n, struct str name, const uint8_t key[RDVMSG_KEY],
              uint64_t since) WARN_UNUSED;
void names_remove(struct names *n, struct str name);
size_t names_count(struct names *n);
bool names_full(struct names *n);

/* Jobs --------------------------------------------------------------------- */

/* Where finished jobs come back to: a list, and an eventfd that becomes readable. The thread that
 * serves owns it, and it outlives the store. */
struct names_outbox {
    pthread_mutex_t lock;
    struct list jobs;
    int event_fd;
};

int names_outbox_init(struct names_outbox *o) WARN_UNUSED;
void names_outbox_done(struct names_outbox *o);
/* The next finished job, to be free()d; NULL when there is none. */
struct names_job *names_outbox_take(struct names_outbox *o);

struct names_job {
    struct list link;
    struct names_outbox *outbox;
    enum rdvmsg_type type; /* CLAIM, RELEASE, LIST: signed, and checked; LOOKUP; CALL, WORKED */
    uint64_t transaction;
    struct addr from;
    struct rdv_via via;
    uint8_t key[RDVMSG_KEY];
    char name[RECORD_NAME_MAX];
    uint8_t name_n;
    uint64_t unix_s;
    bool proven;    /* the sender receives at its address */
    uint16_t asked; /* bytes of the question */
    /* The answer. */
    enum rdv_reason reason;
    uint64_t since;
    union {
        struct {
            char held[RDVMSG_NAMES_MAX][RECORD_NAME_MAX];
            uint8_t held_n[RDVMSG_NAMES_MAX];
            uint8_t held_count;
        };
        struct {
            uint8_t record[RECORD_MAX]; /* signed */
            uint16_t record_n;
            uint32_t age_s;
        };
        struct { /* CALL, WORKED: as it came, then as it is to be answered */
            uint8_t message[RDVMSG_MAX];
            uint16_t message_n;
        };
    };
};

/* Puts a finished job into its outbox; for any thread. */
void names_job_done(struct names_job *job);

/* On disk ------------------------------------------------------------------ */

struct names_store;

/* Opens or makes names.db in the folder, fills the memory from it and starts the thread. trouble
 * gets a sentence. The names outlive the store. */
int names_store_open(const char *folder, struct names *names, struct names_store **ret_store,
                     char *trouble, size_t size) WARN_UNUSED;
/* Finishes the jobs that wait and ends the thread; from then on no more are taken. */
void names_store_stop(struct names_store *s);
void names_store_free(struct names_store *s); /* after it was stopped */
/* Takes the job over. -EBUSY when too many wait: the job stays the caller's. */
int names_store_post(struct names_store *s, struct names_job *job) WARN_UNUSED;
