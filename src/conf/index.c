/* An open-addressing hash table that only grows. It owns copies of its texts. The seed is random,
 * so that nobody who may write names can make them collide. */
#include "conf/index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct slot {
    char *text; /* NULL: empty */
    uint64_t hash;
    uint32_t number;
};

struct conf_index {
    struct slot *slots;
    size_t size, used; /* size is a power of two */
    uint64_t seed;
};

struct conf_index *conf_index_new(void)
{
    struct conf_index *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->size = 64;
    x->slots = calloc(x->size, sizeof *x->slots);
    if (!x->slots) {
        free(x);
        return NULL;
    }
    if (getrandom(&x->seed, sizeof x->seed, GRND_NONBLOCK) < 0)
        x->seed = (uint64_t)(uintptr_t)x;
    return x;
}

void conf_index_free(struct conf_index *x)
{
    if (!x)
        return;
    for (size_t i = 0; i < x->size; i++)
        free(x->slots[i].text);
    free(x->slots);
    free(x);
}

static uint64_t hash_of(const struct conf_index *x, const char *text)
{
    uint64_t h = x->seed;
    for (const char *c = text; *c; c++) {
        h = (h ^ (uint8_t)*c) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h ^ h >> 32;
}

/* The slot that holds the text, or the empty one where it belongs. */
static struct slot *slot_find(const struct conf_index *x, const char *text, uint64_t hash)
{
    size_t i = hash & (x->size - 1);
    while (x->slots[i].text && (x->slots[i].hash != hash || strcmp(x->slots[i].text, text) != 0))
        i = (i + 1) & (x->size - 1);
    return &x->slots[i];
}

uint32_t conf_index_find(const struct conf_index *x, const char *text)
{
    const struct slot *s = slot_find(x, text, hash_of(x, text));
    return s->text ? s->number : CONF_INDEX_NONE;
}

static int grow(struct conf_index *x)
{
    struct conf_index more = {.size = x->size * 2, .seed = x->seed, .used = x->used};
    more.slots = calloc(more.size, sizeof *more.slots);
    if (!more.slots)
        return -ENOMEM;
    for (size_t i = 0; i < x->size; i++)
        if (x->slots[i].text)
            *slot_find(&more, x->slots[i].text, x->slots[i].hash) = x->slots[i];
    free(x->slots);
    *x = more;
    return 0;
}

int64_t conf_index_add(struct conf_index *x, const char *text, uint32_t number)
{
    if (x->used * 2 >= x->size && grow(x) < 0)
        return -ENOMEM;
    uint64_t hash = hash_of(x, text);
    struct slot *s = slot_find(x, text, hash);
    if (s->text)
        return s->number;
    s->text = strdup(text);
    if (!s->text)
        return -ENOMEM;
    s->hash = hash;
    s->number = number;
    x->used++;
    return CONF_INDEX_NONE;
}
