#pragma once
/* Where the sockets of one berthd are: $BERTH_RUNTIME_DIR, or /run/berth for root, or
 * $XDG_RUNTIME_DIR/berth, or /tmp/berth-UID. The folder must be its user's own. */

#include "base/fd.h"

#define RUNTIME_PATH_MAX 100 /* a socket's path has 107 bytes */

/* Fills buf with the path of `file` in the folder; -ENAMETOOLONG. */
int runtime_path(const char *file, char buf[RUNTIME_PATH_MAX]) WARN_UNUSED;
/* Makes the folder, for this user only (for root: readable by all). -EPERM when it is somebody
 * else's or open to others' writing. */
int runtime_make(void) WARN_UNUSED;
/* A connected SOCK_SEQPACKET socket to the file in the folder, or a negative errno: -EPERM when
 * another user, who is not root, listens there. */
int runtime_connect(const char *file) WARN_UNUSED;
/* A listening one; an older one of the same name goes. Mode is for chmod(). */
int runtime_listen(const char *file, unsigned mode) WARN_UNUSED;

#define RUNTIME_CONTROL   "control"
#define RUNTIME_DISPATCH  "dispatch"
#define RUNTIME_LOCK      "lock"
#define RUNTIME_LOG       "log"
#define RUNTIME_INSTANCES "instances"
#define RUNTIME_KEY       "key"
#define RUNTIME_POOLS     "pools"
#define RUNTIME_CONFIG    "config"
#define RUNTIME_NOTIFY    "notify"
#define RUNTIME_METRICS   "metrics"
#define RUNTIME_PEER      "peer"
#define RUNTIME_PEER_LOCK "peer-lock"
#define RUNTIME_PEER_LOG  "peer-log"
