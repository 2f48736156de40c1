#pragma once
/* Asks a rendezvous server and waits for the answer: for the command line. UDP first; when nothing
 * comes back, TCP on the same port. */

#include "rendezvous/server-name.h"
#include "rendezvous/signed.h"

struct client {
    int fd; /* connected; owned */
    bool tcp;
    size_t refused; /* addresses of the host at which nobody answers UDP */
    struct server_name server;
    uint8_t cookie[RDVMSG_COOKIE];
    struct addr seen; /* where the server sees us; without a family before the first cookie */
    uint8_t answer[RDVMSG_MAX]; /* what the slices of the last answer point into */
};

/* "HOST:PORT", "[ADDRESS]:PORT"; port 3478 when there is none. Does not ask yet. -EINVAL,
 * -EHOSTUNREACH (the name has no address), or the socket's error. */
int client_open(struct client *c, const char *server) WARN_UNUSED;
void client_close(struct client *c);

/* Each of these returns 0 with an answer, which may be RDVMSG_ERROR with its reason, or negative
 * errno: -ETIMEDOUT when the server does not answer over UDP nor TCP. */

/* From the socket that will refresh: the token is for its address. */
int client_register(struct client *c, const struct identity *id, struct str signed_record,
                    struct rdvmsg *ret_answer) WARN_UNUSED;
int client_refresh(struct client *c, const struct key *key, const uint8_t token[RDVMSG_COOKIE],
                   struct rdvmsg *ret_answer) WARN_UNUSED;
/* By name, or by key where the name is empty. The record in the answer is still to be checked. */
int client_lookup(struct client *c, struct str name, const struct key *key,
                  struct rdvmsg *ret_answer) WARN_UNUSED;
/* RDVMSG_CLAIM or RDVMSG_RELEASE. */
int client_name(struct client *c, const struct identity *id, enum rdvmsg_type type, struct str name,
                struct rdvmsg *ret_answer) WARN_UNUSED;
int client_list(struct client *c, const struct key *key, struct rdvmsg *ret_answer) WARN_UNUSED;
