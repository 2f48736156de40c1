#pragma once
/* How much of the system's berthd one local user may hold. Root, and a berthd's own user, have the
 * whole of it. */

#include "berthd/server.h"

#define USER_APPS_MAX    256
#define USER_BINDS_MAX   512 /* each is a queue: for every worker of a pool one at each port */
#define USER_CLAIMS_MAX  4096
#define USER_CLIENTS_MAX 64

enum quota { QUOTA_APPS, QUOTA_BINDS, QUOTA_CLAIMS };

/* 0 when one more is allowed, else -EDQUOT with a sentence. */
int quota_check(const struct server *s, uid_t uid, enum quota what,
                char reason[REASON_MAX]) WARN_UNUSED;
