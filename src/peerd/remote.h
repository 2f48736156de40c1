#pragma once
/* Another peer: one that is dialled, or that dials us. */

#include "keys/known.h"
#include "peerd/attempt.h"
#include "peerd/callback.h"
#include "peerd/early.h"
#include "peerd/nearby.h"
#include "peerd/net.h"
#include "peerd/offering.h"
#include "peerd/path.h"
#include "peerd/punching.h"
#include "peerd/trail.h"

#define REMOTES_MAX        4096
#define REMOTE_TROUBLE_MAX 160

struct remote {
    struct list link;
    struct peerd *peerd;
    struct key key;
    char name[KNOWN_NAME_MAX + 1]; /* it is known by; may be empty */
    uint64_t call;                 /* names our last own attempt */
    bool calling;                  /* its end has not come */
    struct channel *channel;       /* of our last call; NULL: none */
    struct session *session;       /* that new streams take; NULL: none */
    struct early *early;           /* owned: a session that begins with the call; NULL: none */
    bool recall_due;               /* a channel is wanted again */
    uint64_t recall_ms;            /* ... but not before */
    unsigned recalls_failed;       /* in a row */
    struct path path;
    struct near near; /* ways that need no server */
    struct punching punchings[PUNCHING_ROLES];
    struct offering offerings[PUNCHING_ROLES];
    struct attempts attempts;
    struct callback callback;
    struct trail trail;
    uint64_t called_ms;            /* when the trail's attempt began */
    unsigned calls;                /* since then */
    uint64_t quiet_ms;             /* since when it has no streams */
    uint64_t heard_ms, packets_in; /* when packets had come, of this session */
};

struct remote *remote_find(struct peerd *p, const struct key *key);
/* NULL: too many, or no memory. */
struct remote *remote_get(struct peerd *p, const struct key *key, const char *name);
void remote_free(struct remote *r);
/* A name, or the beginning of the key. */
const char *remote_label(const struct remote *r, char buf[KEY_TEXT_MAX]);
/* Somebody wants a stream: connects when there is no session. */
void remote_want(struct remote *r);
/* Another relay channel for the session that is there. */
void remote_recall(struct remote *r);
/* Nobody may dial us any more: its sessions end when nothing is published for it. */
void remote_denied(struct remote *r);
/* What has been idle for long goes. */
void remotes_sweep(struct peerd *p);
/* Calls that nobody will answer any more. */
void remotes_forget_calls(struct peerd *p);

/* It may be at this address: found without a server. */
void remote_near(struct remote *r, const struct addr *at, const char *words);

/* What offering.c has made: of a call, of an answer. */
void remote_offered(struct remote *r, const struct offer *o);
void remote_answers(struct remote *r, const struct presence_invite *i, const struct offer *o);

/* Events, of sessions and of presence. */
bool remote_may_connect(struct peerd *p, const struct key *key);
void remote_up(struct peerd *p, struct session *s);
void remote_down(struct peerd *p, struct session *s, const char *reason);
void remote_calling(struct remote *r, const struct presence_calling *c);
void remote_answered(struct remote *r, const struct presence_answered *a);
void remote_failed(struct remote *r, uint64_t call, enum rdv_reason reason);
void remote_invited(struct peerd *p, const struct presence_invite *i);
void remote_channel_lost(struct remote *r, const struct channel *c);
