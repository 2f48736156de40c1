#pragma once
/* What a thread that serves cannot answer from memory: a question that goes to the store's thread
 * or to Redis, and comes back with its answer through the outbox of the thread that asked. */

#include <pthread.h>

#include "base/addr.h"
#include "base/list.h"
#include "rendezvous/place.h"
#include "wire/rdvmsg.h"
#include "wire/record.h"

/* Where finished jobs come back to: a list, and an eventfd that becomes readable. The thread that
 * serves owns it, and it outlives the store. */
struct outbox {
    pthread_mutex_t lock;
    struct list jobs;
    int event_fd;
};

int outbox_init(struct outbox *o) WARN_UNUSED;
void outbox_done(struct outbox *o);
/* The next finished job, to be free()d; NULL when there is none. */
struct job *outbox_take(struct outbox *o);

struct job {
    struct list link;
    struct outbox *outbox;
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
void job_done(struct job *job);
