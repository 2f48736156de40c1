#pragma once
/* The lines of the access log and of the refusal log. Each thread collects its own and writes them
 * once a turn. What cannot be written is kept as long as there is room, then counted as lost;
 * connections never wait for it. */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/dispatchmsg.h"

#define ACCESSLOG_BYTES (64 * 1024)

/* Where lines go; counted, as the snapshots that name it are. */
struct logfile {
    atomic_uint refs;
    int fd; /* owned */
};

/* One thread's lines of one kind. */
struct logbuf {
    char *text; /* owned; NULL until there is a line */
    size_t used;
};

/* NULL when memory is short; the descriptor is consumed. */
struct logfile *logfile_new_consume(int fd);
struct logfile *logfile_ref(struct logfile *f);
void logfile_unref(struct logfile *f);

/* One line without its end; a time is put before it. False when it is lost. */
bool logbuf_line(struct logbuf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Writes what can be written now. False when something is left. */
bool logbuf_flush(struct logbuf *b, struct logfile *f);
/* Only what is safe in a line of words: printable, no blank. `-` for nothing. */
const char *logbuf_word(struct str s, char *buf, size_t size);
