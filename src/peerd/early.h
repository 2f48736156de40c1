#pragma once
/* The first packets of a session go out right behind the call that it needs, before a server has
 * said by which channel: they name the call instead. So a session costs one round trip to a server
 * less. What a server cannot pass on it drops; the first of them are kept, and go out once more
 * when the channel is known. The session becomes the remote's then, and streams are given to it,
 * not before: a call may still come to nothing, and other ways be found. */

#include "base/str.h"
#include "rendezvous/presence.h"

struct remote;
struct early;
struct session;

/* A call has gone to this server: for a remote that has no session yet. */
void early_called(struct remote *r, uint64_t call, uint32_t server);
/* A packet of such a session. */
void early_send(struct remote *r, struct str packet);
/* The channel is known: it is the remote's, and the session, too. False: there was none. */
bool early_numbered(struct remote *r, const struct presence_channel *at);
/* The call has come to nothing, or the session has. */
void early_drop(struct remote *r);
/* This session has ended. */
void early_ended(struct remote *r, const struct session *s);
