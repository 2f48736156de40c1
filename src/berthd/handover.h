#pragma once
/* What one berthd leaves to the next one in the same process: descriptors that stay open over
 * execve(), and a memory file that says what each of them is. */

#include "berthd/server.h"

/* Of the file below, the notes in it and the message RETIRE: who speaks another one cannot take
 * over. */
#define HANDOVER_VERSION     1
#define HANDOVER_REASON_MAX  1024
#define HANDOVER_VERSION_MAX 64

struct handover {
    int fd;                                       /* owned: the memory file */
    int lock, control, successor, channel, image; /* owned until they are taken */
    bool control_is_given;
    pid_t dispatch_pid, keeper_pid;     /* behind the channel */
    char version[HANDOVER_VERSION_MAX]; /* of who wrote it */
    char reason[HANDOVER_REASON_MAX];   /* why the new one gave back; empty: an upgrade */
};

/* Writes everything down and lets its descriptors survive execve(). Of `h` these count: the channel
 * and who is behind it, the image, which is the program to go back to, and the reason. The memory
 * file's descriptor, or a negative errno. */
int handover_write(struct server *s, const struct handover *h) WARN_UNUSED;
/* Writes its number and lets it survive execve(). */
void handover_put_fd(struct wr *w, int fd);
/* From now on no descriptor survives execve() any more. */
void handover_keep_in(void);
/* Reads who wrote it; the descriptors are in *ret_handover then. Consumes fd. */
int handover_open_consume(int fd, struct handover *ret_handover) WARN_UNUSED;
/* Brings back binds, listeners and clients; `ret_asker` is who waits for the upgrade, or NULL. */
int handover_apply(struct server *s, const struct handover *h,
                   struct client **ret_asker) WARN_UNUSED;
