/* Connection IDs and the connections that they stand for: a hash table with chains, keyed, because
 * the first ID of an incoming connection is of the peer's choice. The table owns its entries. */
#include <stdlib.h>

#include "quic/internal.h"

#define BUCKETS_MIN 64

int cid_table_init(struct cid_table *t)
{
    *t = (struct cid_table){.size = BUCKETS_MIN};
    quic_random(t->key, sizeof t->key);
    t->buckets = calloc(t->size, sizeof *t->buckets);
    return t->buckets ? 0 : -ENOMEM;
}

void cid_table_done(struct cid_table *t)
{
    for (size_t i = 0; t->buckets && i < t->size; i++)
        while (t->buckets[i]) {
            struct cid *entry = t->buckets[i];
            t->buckets[i] = entry->next;
            free(entry);
        }
    free(t->buckets);
    t->buckets = NULL;
}

static size_t bucket_of(const struct cid_table *t, const uint8_t *id, size_t n)
{
    uint8_t tag[SIPHASH_TAG];
    uint64_t hash;
    siphash128(t->key, id, n, tag);
    memcpy(&hash, tag, sizeof hash);
    return hash & (t->size - 1);
}

/* The link that points to the entry, or the empty one at the end of the chain. */
static struct cid **link_of(const struct cid_table *t, const uint8_t *id, size_t n)
{
    struct cid **at = &t->buckets[bucket_of(t, id, n)];
    while (*at && ((*at)->id.datalen != n || memcmp((*at)->id.data, id, n) != 0))
        at = &(*at)->next;
    return at;
}

struct cid *cid_find(const struct cid_table *t, const uint8_t *id, size_t n)
{
    return *link_of(t, id, n);
}

/* Without memory it stays as it is, only slower. */
static void grow(struct cid_table *t)
{
    struct cid_table larger = *t;
    larger.size = t->size * 2;
    larger.buckets = calloc(larger.size, sizeof *larger.buckets);
    if (!larger.buckets)
        return;
    for (size_t i = 0; i < t->size; i++)
        for (struct cid *entry = t->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            size_t to = bucket_of(&larger, entry->id.data, entry->id.datalen);
            entry->next = larger.buckets[to];
            larger.buckets[to] = entry;
        }
    free(t->buckets);
    *t = larger;
}

int cid_add(struct cid_table *t, const ngtcp2_cid *id, struct quic_conn *c)
{
    if (t->count >= t->size)
        grow(t);
    struct cid **at = link_of(t, id->data, id->datalen);
    if (*at)
        return -EEXIST;
    struct cid *entry = malloc(sizeof *entry);
    if (!entry)
        return -ENOMEM;
    *entry = (struct cid){.conn = c, .id = *id};
    *at = entry;
    t->count++;
    return 0;
}

static void unlink_entry(struct cid_table *t, struct cid **at)
{
    struct cid *entry = *at;
    *at = entry->next;
    free(entry);
    t->count--;
}

void cid_remove(struct cid_table *t, const ngtcp2_cid *id)
{
    struct cid **at = link_of(t, id->data, id->datalen);
    if (*at)
        unlink_entry(t, at);
}

/* Rare, and the table has the size of what is in it. */
void cid_remove_all(struct cid_table *t, const struct quic_conn *c)
{
    for (size_t i = 0; i < t->size; i++)
        for (struct cid **at = &t->buckets[i]; *at;) {
            if ((*at)->conn == c)
                unlink_entry(t, at);
            else
                at = &(*at)->next;
        }
}
