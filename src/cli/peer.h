#pragma once
/* What the verbs about keys, names and peers have in common. */

#include "keys/keys.h"
#include "keys/known.h"
#include "rendezvous/client.h"

#define RENDEZVOUS_MAX 8

/* Where to ask: --rendezvous, as often as given, else $BERTH_RENDEZVOUS, else the configuration,
 * else what was built in. */
struct rendezvous {
    const char *servers[RENDEZVOUS_MAX];
    size_t count;
};

/* $BERTH_KEY or ~/.config/berth/key; the file of known peers stands beside it. -ENOENT when there
 * is no home folder. */
int peer_key_path(char *buf, size_t size) WARN_UNUSED;
int peer_known_path(char *buf, size_t size) WARN_UNUSED;

/* These complain by themselves and return CLI_OK or the exit status. */
int peer_start(const char *verb);
int peer_identity(const char *verb, struct identity *ret_id);
int peer_server_add(const char *verb, struct rendezvous *r, const char *server);
int peer_servers(const char *verb, struct rendezvous *r);
/* The same, where none is no mistake. */
void peer_servers_default(struct rendezvous *r);
/* "cannot ask SERVER: ...". CLI_TROUBLE. */
int peer_unreachable(const char *verb, const char *server, int error);
/* An RDVMSG_ERROR: "SERVER: Reason: sentence". CLI_TROUBLE. */
int peer_refused(const char *verb, const char *server, const struct rdvmsg *answer);

/* "2026-11-22 22:00 UTC" */
#define PEER_TIME_MAX 32
const char *peer_time(uint64_t unix_s, char buf[PEER_TIME_MAX]);
const char *peer_transport(enum record_transport t);
const char *peer_kind(enum record_kind k);
