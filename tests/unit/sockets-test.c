/* The sockets beside the one: found by their path, within what there may be. */
#include "peerd/sockets.h"

#include <stdlib.h>

#include "peerd-rig.h"
#include "test.h"

static struct peerd *rig_new(size_t descriptors)
{
    struct peerd *p = calloc(1, sizeof *p);
    CHECK(p && loop_init(&p->loop) == 0);
    p->net.peerd = p;
    budget_init(&p->net.budget, descriptors);
    sockets_init(&p->net.sockets);
    return p;
}

static void rig_free(struct peerd *p)
{
    sockets_close(&p->net, NULL, 0, 0);
    CHECK_INT(p->net.budget.used, 0);
    CHECK_INT(p->net.sockets.count, 0);
    loop_done(&p->loop);
    free(p);
}

TEST("a socket is found by its path, and not any more when it is closed")
{
    struct peerd *p = rig_new(1024);
    struct sockets *all = &p->net.sockets;
    const struct addr nowhere = {.len = 0};
    for (unsigned i = 0; i < 20; i++)
        CHECK_INT(sockets_open(&p->net, NULL, i % 2, i), 0);
    for (unsigned i = 0; i < 20; i++) {
        struct extra *x = sockets_find(&p->net, NULL, i % 2, i);
        uint32_t slot = sockets_path(x, &nowhere).id - SOCKETS_PATH;
        CHECK(sockets_at(all, slot) == x);
        CHECK(!sockets_at(all, slot + SOCKETS_MAX));
    }
    sockets_close(&p->net, NULL, 1, 0);
    CHECK(sockets_at(all, 0) != NULL);
    CHECK(!sockets_at(all, 1));
    rig_free(p);
}

TEST("a path's number does not come twice, and a place that is taken is passed over")
{
    struct peerd *p = rig_new(1024);
    struct sockets *all = &p->net.sockets;
    CHECK_INT(sockets_open(&p->net, NULL, 0, 0), 0);
    all->next_slot = SOCKETS_MAX;
    CHECK_INT(sockets_open(&p->net, NULL, 0, 1), 0);
    CHECK_INT(sockets_find(&p->net, NULL, 0, 0)->slot, 0);
    CHECK_INT(sockets_find(&p->net, NULL, 0, 1)->slot, SOCKETS_MAX + 1);
    CHECK(sockets_at(all, SOCKETS_MAX + 1) == sockets_find(&p->net, NULL, 0, 1));
    rig_free(p);
}

TEST("no more than the budget has are opened")
{
    struct peerd *p = rig_new(64);
    unsigned opened = 0;
    while (opened < 100 && sockets_open(&p->net, NULL, 0, opened) == 0)
        opened++;
    CHECK_INT(opened, 12);
    CHECK_INT(sockets_open(&p->net, NULL, 0, opened), -EMFILE);
    rig_free(p);
}
