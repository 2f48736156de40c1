#pragma once
/* The handlers behind rdv_handle(). Each fills the answer and returns RDV_OK, or says why not. An
 * answer that stays without a type comes later. */

#include "rendezvous/server.h"

struct request {
    const struct rdv_input *in;
    struct rdvmsg *m;
    bool proven; /* the sender receives at its address */
    uint32_t now_s;
    uint64_t number;         /* goes with an error: what is known, or when to try again */
    uint8_t buf[RECORD_MAX]; /* for a record in the answer */
};

enum rdv_reason handle_register(struct rdv *r, struct request *q, struct rdvmsg *answer);
enum rdv_reason handle_refresh(struct rdv *r, struct request *q, struct rdvmsg *answer);
enum rdv_reason handle_lookup(struct rdv *r, struct request *q, struct rdvmsg *answer);
enum rdv_reason handle_name(struct rdv *r, struct request *q, struct rdvmsg *answer);

enum rdv_reason handle_allow(struct rdv *r, struct request *q, struct rdvmsg *answer);
enum rdv_reason handle_call(struct rdv *r, struct request *q, struct rdvmsg *answer);
enum rdv_reason handle_answer(struct rdv *r, struct request *q, struct rdvmsg *answer);
enum rdv_reason handle_worked(struct rdv *r, struct request *q, struct rdvmsg *answer);
enum rdv_reason handle_open(struct rdv *r, struct request *q, struct rdvmsg *answer);

/* Answers with a cookie instead. */
void cookie_answer(const struct rdv *r, const struct request *q, struct rdvmsg *answer);
/* The answer comes later, from the store or from Redis. */
enum rdv_reason job_post(struct rdv *r, const struct request *q);
/* A record that was looked up, here or in Redis; empty when there is none. */
enum rdv_reason lookup_answer(struct str record, bool by_name, uint64_t unix_s,
                              struct rdvmsg *answer);

/* May this sender have another signature checked? RDV_OK, RDV_RATE_LIMITED or RDV_BUSY. */
enum rdv_reason signature_allowed(struct rdv *r, struct request *q);
