#pragma once
/* berthd's memory of a bind, kept by dispatch as a note of bytes, and what a successor makes of it.
 */

#include "berthd/server.h"

#define RECOVER_NOTE_MAX 24576
/* First byte of each note. Another berthd understands only its own. */
#define RECOVER_VERSION 1

struct rd;
struct wr;

/* An application for itself, or for the worker of one, by that one's secret. NULL when it cannot be
 * had. */
void recover_app_save(struct wr *w, const struct app *a, const uint8_t instance[APPMSG_INSTANCE]);
struct app *recover_app_restore(struct server *s, struct rd *r,
                                uint8_t ret_instance[APPMSG_INSTANCE]);
/* Writes the note and returns its length; 0 when it does not fit. */
size_t recover_note(const struct bind *b, uint8_t note[RECOVER_NOTE_MAX]);
/* A bind as it was, from dispatch's QUEUE and its two descriptors. What cannot be understood is
 * closed. */
void recover_queue_consume(struct server *s, const struct dispatchmsg *m, int fds[2]);
void recover_listener_consume(struct server *s, const struct dispatchmsg *m, int *fds,
                              size_t fd_count);
/* Makes the claims anew and lets go what nobody holds or needs any more. */
void recover_finish(struct server *s);
