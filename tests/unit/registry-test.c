/* The registry: what is newest stays, what is silent goes, and the tables below it never lose an
 * entry. */
#include "rendezvous/registry.h"

#include <sodium.h>
#include <stdlib.h>

#include "rendezvous/table.h"
#include "test.h"

#define LEASE 90

__attribute__((constructor)) static void prepare(void)
{
    if (sodium_init() < 0)
        abort();
}

/* What the registry sees of a record: version, key, sequence, and some bytes. */
static struct str record(uint8_t buf[RECORD_MAX], uint32_t who, uint8_t sequence, uint8_t salt)
{
    memset(buf, 0, 200);
    memcpy(buf + 1, &who, sizeof who);
    buf[1 + RECORD_KEY + 7] = sequence;
    buf[150] = salt;
    return (struct str){(const char *)buf, 200};
}

static struct place at(const char *text)
{
    const struct rdv_via via = {.socket = 1};
    struct addr a;
    if (addr_parse(text, &a) < 0)
        abort();
    return place_make(&a, &via);
}

static enum registry_result put(struct registry *r, uint32_t who, uint8_t sequence, uint8_t salt,
                                uint32_t now_s)
{
    uint8_t buf[RECORD_MAX];
    uint64_t known;
    struct place from = at("192.0.2.1:4711");
    return registry_put(r, record(buf, who, sequence, salt), &from, now_s, &known);
}

static size_t get(struct registry *r, uint32_t who, uint32_t now_s, uint32_t *ret_age)
{
    uint8_t key[RECORD_KEY] = {0}, buf[RECORD_MAX];
    memcpy(key, &who, sizeof who);
    return registry_get(r, key, now_s, buf, ret_age);
}

static uint32_t due_age;

static bool due(struct registry *r, uint32_t who, uint8_t round, uint32_t now_s)
{
    uint8_t key[RECORD_KEY] = {0}, buf[RECORD_MAX];
    const struct registry_copies c = {round, now_s, LEASE / 3};
    memcpy(key, &who, sizeof who);
    return registry_due(r, &c, key, buf, &due_age) == 200;
}

TEST("a copy is due once when the lease is new, and again a third later or in a new round")
{
    struct registry *r = registry_new(10, LEASE);
    CHECK(!due(r, 1, 1, 100));
    CHECK_INT(put(r, 1, 5, 0, 100), REGISTRY_OK);
    CHECK(due(r, 1, 1, 100));
    CHECK(!due(r, 1, 1, 129));
    CHECK(due(r, 1, 1, 130));
    CHECK_INT(due_age, 30);
    CHECK(!due(r, 1, 1, 131));
    CHECK(due(r, 1, 2, 131));
    CHECK(!due(r, 1, 2, 132));
    CHECK_INT(put(r, 1, 5, 0, 133), REGISTRY_OK);
    CHECK(due(r, 1, 2, 133));
    CHECK(!due(r, 1, 3, 133 + LEASE));
    registry_free(r);
}

TEST("all copies that are due are found by going through the shards")
{
    struct registry *r = registry_new(2000, LEASE);
    uint8_t buf[RECORD_MAX];
    uint32_t age, found = 0;
    for (uint32_t who = 1; who <= 1000; who++)
        CHECK_INT(put(r, who, 1, 0, 100), REGISTRY_OK);
    for (uint32_t who = 1; who <= 100; who++)
        CHECK(due(r, who, 7, 100));
    const struct registry_copies c = {7, 101, LEASE / 3};
    for (struct registry_cursor at = {0, 0}; at.shard < REGISTRY_SHARDS;)
        if (registry_due_next(r, &c, &at, buf, &age) == 200)
            found++;
        else
            at = (struct registry_cursor){at.shard + 1, 0};
    CHECK_INT(found, 900);
    registry_free(r);
}

TEST("a lower sequence is older, an equal one with other bytes is another")
{
    struct registry *r = registry_new(10, LEASE);
    CHECK_INT(put(r, 1, 5, 0, 100), REGISTRY_OK);
    CHECK_INT(put(r, 1, 5, 0, 100), REGISTRY_OK);
    CHECK_INT(put(r, 1, 5, 1, 100), REGISTRY_OTHER);
    CHECK_INT(put(r, 1, 4, 0, 100), REGISTRY_OLDER);
    CHECK_INT(put(r, 1, 6, 1, 100), REGISTRY_OK);
    CHECK_INT(registry_count(r), 1);
    registry_free(r);
}

TEST("a lease ends when its owner is silent and goes on when it is refreshed")
{
    struct registry *r = registry_new(10, LEASE);
    struct place from = at("[2001:db8::1]:1");
    uint8_t key[RECORD_KEY] = {1};
    uint32_t age = 0;
    uint64_t sequence = 0;
    CHECK_INT(put(r, 1, 5, 0, 100), REGISTRY_OK);
    CHECK_INT(get(r, 1, 100 + LEASE - 1, &age), 200);
    CHECK_INT(age, LEASE - 1);
    CHECK(registry_refresh(r, key, &from, 100 + LEASE - 1, &sequence));
    CHECK_INT(sequence, 5);
    CHECK_INT(get(r, 1, 100 + LEASE, &age), 200);
    CHECK_INT(age, 1);
    CHECK_INT(get(r, 1, 100 + 2 * LEASE, &age), 0);
    CHECK(!registry_refresh(r, key, &from, 100 + 2 * LEASE, &sequence));
    /* What has ended does not stand in the way of an older record. */
    CHECK_INT(put(r, 1, 4, 0, 100 + 2 * LEASE), REGISTRY_OK);
    registry_free(r);
}

TEST("within a lease of their end all are swept")
{
    struct registry *r = registry_new(1000, LEASE);
    for (uint32_t i = 0; i < 1000; i++)
        CHECK_INT(put(r, i, 1, 0, i < 500 ? 100 : 150), REGISTRY_OK);
    CHECK_INT(put(r, 1000, 1, 0, 150), REGISTRY_FULL);
    /* As often as in the seconds of one lease, at a time when half of them have ended. */
    for (uint32_t i = 0; i < LEASE; i++)
        registry_sweep(r, 190 + i % 2);
    CHECK_INT(registry_count(r), 500);
    uint32_t age;
    CHECK_INT(get(r, 700, 200, &age), 200);
    CHECK_INT(get(r, 300, 200, &age), 0);
    CHECK_INT(put(r, 1000, 1, 0, 200), REGISTRY_OK);
    registry_free(r);
}

TEST("records of any size replace each other")
{
    struct registry *r = registry_new(10, LEASE);
    struct place from = at("192.0.2.1:4711");
    uint8_t buf[RECORD_MAX] = {0}, back[RECORD_MAX];
    uint8_t key[RECORD_KEY] = {0};
    uint64_t known;
    uint32_t age;
    for (size_t n = 41; n <= RECORD_MAX; n++) {
        buf[1 + RECORD_KEY + 6] = (uint8_t)(n >> 8);
        buf[1 + RECORD_KEY + 7] = (uint8_t)n;
        CHECK_INT(registry_put(r, (struct str){(char *)buf, n}, &from, 1, &known), REGISTRY_OK);
        CHECK_INT(known, n);
        CHECK_INT(registry_get(r, key, 1, back, &age), n);
    }
    CHECK_INT(registry_put(r, (struct str){(char *)buf, 40}, &from, 1, &known), REGISTRY_FULL);
    CHECK_INT(registry_count(r), 1);
    registry_free(r);
}

/* The table against a plain array, with a hash so bad that everything collides. */
static struct str key_of(const void *entry)
{
    return (struct str){entry, 1};
}

static uint64_t bad_hash(const void *context, struct str key)
{
    (void)context;
    return (uint8_t)key.p[0] % 8;
}

TEST("a table with nothing but collisions finds what it has and nothing else")
{
    struct table t = {.slots = NULL};
    struct table_type type = {key_of, bad_hash, NULL};
    static char entries[256];
    bool has[256] = {false};
    uint32_t random = 1;
    for (int i = 0; i < 256; i++)
        entries[i] = (char)i;
    for (int step = 0; step < 20000; step++) {
        random = random * 1664525 + 1013904223;
        uint8_t k = (uint8_t)(random >> 24);
        struct str key = key_of(&entries[k]);
        uint64_t hash = bad_hash(NULL, key);
        CHECK(table_find(&t, &type, key, hash) == (has[k] ? &entries[k] : NULL));
        if (has[k])
            CHECK(table_remove(&t, &type, key, hash) == &entries[k]);
        else
            CHECK_INT(table_insert(&t, &type, &entries[k], hash), 0);
        has[k] = !has[k];
        if (test_failed)
            break;
    }
    size_t used = 0;
    for (int i = 0; i < 256; i++)
        used += has[i];
    CHECK_INT(t.used, used);
    table_done(&t);
}
