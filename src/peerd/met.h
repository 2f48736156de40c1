#pragma once
/* Where peers that were met have answered last, for when no server can say: one text file beside
 * the known peers, KEY TIME ADDRESS... on each line. An address is only where to try: whoever
 * answers there proves its key. */

#include "base/addr.h"
#include "keys/keys.h"

#define MET_MAX       256 /* peers; the one that was not met for longest goes */
#define MET_ADDRS_MAX 4   /* of each, the latest first */

struct met_peer {
    struct key key;
    uint64_t seen_s; /* Unix time */
    struct addr addrs[MET_ADDRS_MAX];
    size_t count;
};

struct met {
    struct met_peer *peers; /* MET_MAX; owned */
    size_t count;
    char *path; /* owned */
};

/* Without a file there are none; lines that make no sense are passed over. -ENOMEM, or the file's
 * error. */
int met_load(struct met *m, const char *path) WARN_UNUSED;
void met_done(struct met *m);
/* NULL: it was not met. */
const struct met_peer *met_find(const struct met *m, const struct key *key);
/* It has answered there. True: the file is worth writing. */
bool met_note(struct met *m, const struct key *key, const struct addr *at, uint64_t now_s);
/* All or nothing. */
int met_save(const struct met *m) WARN_UNUSED;
