#pragma once
/* A peer that was asked for by name or key, found at a server, and checked: the record's signature,
 * its key against the one that was asked for or that the name had before, its time and sequence. */

#include "cli/peer.h"

struct target {
    char name[RECORD_NAME_MAX + 1];    /* empty: by key */
    char service[RECORD_NAME_MAX + 1]; /* empty: none was asked for */
    struct key key;
};

struct found {
    struct key key;
    const char *server;
    uint64_t claimed; /* Unix time; 0: by key */
    uint32_t age_s;   /* since its last sign of life */
    bool registered;  /* else there is no record */
    bool first_use;   /* has been pinned now */
    uint8_t bytes[RECORD_MAX];
    struct record record; /* points into bytes */
};

/* NAME, KEY, NAME/SERVICE or KEY/SERVICE. CLI_OK, or complains. */
int target_parse(const char *verb, const char *text, struct target *ret_target);
/* Asks the servers in turn until one knows it. CLI_OK, or complains. */
int found_ask(const char *verb, const struct target *t, const struct rendezvous *where,
              struct found *ret_found);
