#pragma once
/* Who has to go when there are too many peers: strangers, who are let in because anyone may, never
 * keep out those who are allowed by their key or who are known. */

#include "peerd/remote.h"

/* Sessions that strangers made, of all that there may be (QUIC_CONN_MAX). */
#define CROWD_SESSIONS_MAX 2048

/* Frees the remote that has been quiet for longest, has no session and is not called. False: there
 * is none that may go for this one. */
bool crowd_make_room(struct peerd *p, const struct remote *newcomer);
/* Whether this session, which has just come up, may stay where strangers may have made `most`;
 * another one may have to go for it. */
bool crowd_admits(struct peerd *p, const struct remote *r, const struct session *s, size_t most);
