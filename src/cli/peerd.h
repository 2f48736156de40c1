#pragma once
/* Asking berth-peer. */

#include <jansson.h>

#include "cli/peer.h"
#include "wire/appmsg.h"

#define PEERD_ARGS_MAX 62

/* A question in the making: a verb, and KEY=VALUE arguments. */
struct peerd_ask {
    const char *verb;                     /* of berth-peer */
    const char *argv[PEERD_ARGS_MAX + 2]; /* argv[0] is the verb; the others are owned */
    size_t count;
    char *reason; /* owned; what berth-peer said when it refused */
};

void peerd_begin(struct peerd_ask *a, const char *verb);
/* Above PEERD_ARGS_MAX they are counted only, and peerd_send() fails. */
void peerd_arg(struct peerd_ask *a, const char *key, const char *value);
/* The servers to be asked, or those of peer_servers_default(); none is no mistake: berth-peer may
 * know some. */
void peerd_servers(struct peerd_ask *a, const struct rendezvous *where);
void peerd_end(struct peerd_ask *a);

/* A connection to berth-peer, which is started, with a complaint when that fails. CLI_OK. */
int peerd_connect(const char *verb, bool start, int *ret_fd);
/* Asks and waits. 0 and the text (malloc()ed, may be NULL), or negative errno with the reason in
 * the question. */
int peerd_send(struct peerd_ask *a, int fd, int send_fd, char **ret_text) WARN_UNUSED;
/* The same in two: for who has something to do until the descriptor can be read. */
int peerd_ask_only(struct peerd_ask *a, int fd, int send_fd) WARN_UNUSED;
int peerd_answer(struct peerd_ask *a, int fd, char **ret_text) WARN_UNUSED;
/* All of it, for verbs with nothing special: CLI_OK, or complains. */
int peerd_run(const char *verb, struct peerd_ask *a, bool start, char **ret_text);

/* Of berth-peer's answer to a change: does a server know? */
bool peerd_is_known(const json_t *answer);
/* May anybody dial this service? */
bool peerd_is_allowed(const json_t *answer, const char *service);
/* Says so when none does. */
void peerd_told(const char *verb, const char *answer);

/* Where to ask: as given, or $BERTH_RENDEZVOUS, or where berth-peer asks. CLI_OK, or complains. */
int peerd_or_servers(const char *verb, struct rendezvous *where);
/* NAME or KEY: pinned, or looked up and pinned now. CLI_OK, or complains. */
int peerd_key_of(const char *verb, const char *who, struct rendezvous *where, struct key *ret_key);
/* Adds allow=KEY or allow=KEY:NAME. CLI_OK, or complains. */
int peerd_allow_arg(const char *verb, struct peerd_ask *a, const char *who,
                    struct rendezvous *where);
