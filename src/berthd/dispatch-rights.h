#pragma once
/* What dispatch may say to berthd, and when. Dispatch reads bytes from strangers: what it says is
 * believed only as far as this table goes. */

#include <jansson.h>

#include "berthd/server.h"

enum {
    SAYS_SERVING = 1, /* at any time */
    SAYS_ANSWER = 2,  /* in its answer to RECOVER */
    SAYS_REBUILD = 4, /* in that answer, to a berthd that has just started */
};

bool dispatch_may_say(enum dispatchmsg_type type, unsigned when, size_t fd_count);
/* The table, for `berth status --security`. */
json_t *dispatch_rights_json(void);

/* Do the descriptors of a LISTENER listen where it says? The kernel knows: so dispatch cannot name
 * an address, or a path that berthd would remove, for which it was given no socket. */
bool dispatch_listener_is_true(const struct dispatchmsg *m, const int *fds, size_t fd_count);
/* Is this the page of counters, of full size for good? Reading a page that was cut short would kill
 * berthd. */
bool dispatch_board_is_true(int fd);
/* The process at the other end, from the kernel; 0: not known. */
pid_t dispatch_peer_pid(int channel);
