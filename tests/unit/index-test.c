/* The index of berthd: what is put in is found, however large it has grown. */
#include "berthd/index.h"

#include <stdlib.h>
#include <string.h>

#include "test.h"

#define MANY 5000

struct thing {
    struct index_node node;
    uint32_t number;
};

static struct thing *find(const struct index *x, uint32_t number)
{
    uint32_t hash = index_hash(&number, sizeof number);
    list_for_each(t, index_list(x, hash), struct thing,
                  node.link) if (t->node.hash == hash && t->number == number) return t;
    return NULL;
}

TEST("what is put in is found, and what is taken out is not")
{
    struct index x;
    struct thing *things = calloc(MANY, sizeof *things);
    CHECK(things && index_init(&x) == 0);
    for (uint32_t i = 0; i < MANY; i++) {
        things[i].number = i;
        index_add(&x, &things[i].node, index_hash(&i, sizeof i));
    }
    size_t found = 0;
    for (uint32_t i = 0; i < MANY; i++)
        found += find(&x, i) == &things[i];
    CHECK_INT(found, MANY);
    for (uint32_t i = 0; i < MANY; i += 2)
        index_remove(&x, &things[i].node);
    CHECK_INT(x.count, MANY / 2);
    CHECK(!find(&x, 0) && find(&x, 1) == &things[1]);
    index_done(&x);
    free(things);
}

TEST("the lists stay short")
{
    struct index x;
    struct thing *things = calloc(MANY, sizeof *things);
    CHECK(things && index_init(&x) == 0);
    for (uint32_t i = 0; i < MANY; i++)
        index_add(&x, &things[i].node, index_hash(&i, sizeof i));
    size_t longest = 0;
    for (uint32_t i = 0; i < x.size; i++) {
        size_t n = 0;
        list_for_each(t, index_list(&x, i), struct thing, node.link) n++;
        longest = n > longest ? n : longest;
    }
    CHECK(longest < 16);
    index_done(&x);
    free(things);
}

TEST("taking a node out twice does no harm")
{
    struct index x;
    struct thing t = {0};
    CHECK(index_init(&x) == 0);
    index_add(&x, &t.node, 7);
    index_remove(&x, &t.node);
    index_remove(&x, &t.node);
    CHECK_INT(x.count, 0);
    index_done(&x);
}
