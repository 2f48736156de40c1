#pragma once
/* A peer that was asked for by name or key, and what a server answered: the record's signature, its
 * key against the one that was asked for or that the name had before, its time and sequence. */

#include "keys/known.h"
#include "rendezvous/signed.h"

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

#define FOUND_TROUBLE_MAX 1024
/* "2026-11-22 22:00 UTC" */
#define FOUND_TIME_MAX 32

/* NAME, KEY, NAME/SERVICE or KEY/SERVICE. -EINVAL with a sentence. */
int target_parse(const char *text, struct target *ret_target, char *trouble,
                 size_t size) WARN_UNUSED;
/* Believes nothing of an RDVMSG_FOUND that can be checked without knowing what was before.
 * `ret_found` has its server already. -EBADMSG with a sentence. */
int found_check(const struct target *t, const struct rdvmsg *answer, struct found *ret_found,
                char *trouble, size_t size) WARN_UNUSED;
/* Compares with the file of known peers and writes what is new. Negative errno with a sentence;
 * -EKEYREJECTED when the name had another key. */
int found_remember(const char *path, const struct target *t, struct found *f, char *trouble,
                   size_t size) WARN_UNUSED;

const char *found_time(uint64_t unix_s, char buf[FOUND_TIME_MAX]);
