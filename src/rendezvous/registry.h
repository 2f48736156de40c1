#pragma once
/* Who is registered: for each key the newest signed record, where the server saw its owner, and the
 * lease that each sign of life renews. Soft state: it is lost when the server ends, and peers
 * register again. A key's list of who may call it is part of that. Safe for any number of threads.
 */

#include "rendezvous/place.h"
#include "wire/record.h"

struct registry;

enum registry_result {
    REGISTRY_OK,
    REGISTRY_OLDER, /* a newer sequence is known */
    REGISTRY_OTHER, /* the same sequence with other bytes is known */
    REGISTRY_FULL,
};

/* At most peers_max, each for lease_s after its last sign of life. Now is any clock of seconds that
 * only goes forward. NULL without memory. */
struct registry *registry_new(size_t peers_max, uint32_t lease_s);
void registry_free(struct registry *r);

/* A signed record that has been checked. ret_known is the sequence of what is known afterwards. */
enum registry_result registry_put(struct registry *r, struct str record, const struct place *at,
                                  uint32_t now_s, uint64_t *ret_known);
/* Are these the very bytes that are known for this key? Their signature was checked then. */
bool registry_has(struct registry *r, struct str record, uint32_t now_s);
/* A sign of life. False when nobody with this key is registered. */
bool registry_refresh(struct registry *r, const uint8_t key[RECORD_KEY], const struct place *at,
                      uint32_t now_s, uint64_t *ret_sequence);
/* Who may call this key from now on: anyone, or those whose keys begin with one of the
 * REGISTRY_ALLOWED bytes each. Until it has said so: nobody. False when it is not registered. */
#define REGISTRY_ALLOWED 8
bool registry_allow(struct registry *r, const uint8_t key[RECORD_KEY], bool anyone,
                    struct str allowed, uint32_t now_s);
enum registry_access { REGISTRY_MAY_CALL, REGISTRY_MAY_NOT, REGISTRY_NOT_THERE };
/* May the caller call this key, and where is it? */
enum registry_access registry_access(struct registry *r, const uint8_t key[RECORD_KEY],
                                     const uint8_t caller[RECORD_KEY], uint32_t now_s,
                                     struct place *ret_place);
/* Where is it? False when it is not registered. */
bool registry_place(struct registry *r, const uint8_t key[RECORD_KEY], uint32_t now_s,
                    struct place *ret_place);
/* Copies the record and returns its length, 0 when there is none. */
size_t registry_get(struct registry *r, const uint8_t key[RECORD_KEY], uint32_t now_s,
                    uint8_t buf[RECORD_MAX], uint32_t *ret_age_s);
/* Each lease may have a copy elsewhere, where other servers find it. It is due when the lease is
 * new, when the last one was written so long ago, and when a round begins because copies may have
 * been lost. */
struct registry_copies {
    uint8_t round; /* never 0 */
    uint32_t now_s, every_s;
};

struct registry_cursor {
    size_t shard, place;
};

#define REGISTRY_SHARDS 256

/* Copies the record of a lease whose copy is due, which it is no longer then, and returns its
 * length; otherwise 0. */
size_t registry_due(struct registry *r, const struct registry_copies *c,
                    const uint8_t key[RECORD_KEY], uint8_t buf[RECORD_MAX], uint32_t *ret_age_s);
/* The same for the next one of the cursor's shard, which begins at place 0; 0: there are no more.
 * What a growing table moves in the meantime may be missed. */
size_t registry_due_next(struct registry *r, const struct registry_copies *c,
                         struct registry_cursor *at, uint8_t buf[RECORD_MAX], uint32_t *ret_age_s);
/* Frees what has expired. To be called about every second: each call looks at a part, so that all
 * is looked at within a lease. */
void registry_sweep(struct registry *r, uint32_t now_s);
size_t registry_count(struct registry *r); /* expired ones count until they are swept */
