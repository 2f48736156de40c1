#pragma once
/* How much of the system's berthd one local user may hold. Root, and a berthd's own user, have the
 * whole of it. */

#include "berthd/server.h"

#define USER_APPS_MAX   256
#define USER_BINDS_MAX  512 /* each is a queue: for every worker of a pool one at each port */
#define USER_CLAIMS_MAX 4096
/* Of one pool. */
#define USER_WORKERS_MAX   64
#define USER_WATCH_MAX     16
#define USER_LOG_SIZE_MAX  (10u << 20)
#define USER_LOG_FILES_MAX 5
#define USER_CLIENTS_MAX   64

enum quota { QUOTA_APPS, QUOTA_BINDS, QUOTA_CLAIMS };

/* 0 when one more is allowed, else -EDQUOT with a sentence. */
int quota_check(const struct server *s, uid_t uid, enum quota what,
                char reason[REASON_MAX]) WARN_UNUSED;
