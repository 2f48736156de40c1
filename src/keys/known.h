#pragma once
/* The peers that were met: which key a name had when it was first seen, which is what it must have
 * from then on, and the highest sequence number of its records, below which none is taken. One text
 * file: NAME KEY SINCE SEQUENCE on each line, "-" for a peer known by its key only. */

#include "keys/keys.h"

#define KNOWN_NAME_MAX 40
#define KNOWN_MAX      10000

struct known_peer {
    char name[KNOWN_NAME_MAX + 1]; /* empty: by its key only */
    struct key key;
    uint64_t since; /* Unix time in seconds */
    uint64_t sequence;
};

struct known {
    struct known_peer *peers;
    size_t count;
    char *path;
    int lock_fd; /* held until known_done(), so that changes do not overtake each other */
};

/* Without a file there are none. With `change` the file is locked for known_save(). -EBADMSG with
 * the number of the line that makes no sense. */
int known_open(const char *path, bool change, struct known *ret_known,
               size_t *ret_line) WARN_UNUSED;
void known_done(struct known *k);
struct known_peer *known_by_name(const struct known *k, const char *name);
/* The entry of the name, or, for an empty name, any with the key. */
struct known_peer *known_find(const struct known *k, const char *name, const struct key *key);
/* -ENOSPC above KNOWN_MAX. The entry is valid until the next one is added. */
int known_add(struct known *k, const struct known_peer *peer) WARN_UNUSED;
/* The highest that was seen of this key, under any name. */
uint64_t known_sequence(const struct known *k, const struct key *key);
void known_remove(struct known *k, struct known_peer *peer);
/* Replaces the file, all or nothing. */
int known_save(const struct known *k) WARN_UNUSED;
