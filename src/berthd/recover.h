#pragma once
/* berthd's memory of a bind, kept by dispatch as a note of bytes, and what a successor makes of it.
 */

#include "berthd/server.h"

#define RECOVER_NOTE_MAX 24576

/* Writes the note and returns its length; 0 when it does not fit. */
size_t recover_note(const struct bind *b, uint8_t note[RECOVER_NOTE_MAX]);
/* A bind as it was, from dispatch's QUEUE and its two descriptors. What cannot be understood is
 * closed. */
void recover_queue_consume(struct server *s, const struct dispatchmsg *m, int fds[2]);
void recover_listener_consume(struct server *s, const struct dispatchmsg *m, int *fds,
                              size_t fd_count);
/* Makes the claims anew and lets go what nobody holds or needs any more. */
void recover_finish(struct server *s);
