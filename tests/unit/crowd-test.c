/* More peers than there may be: who goes, who stays. */
#include "peerd/crowd.h"

#include <stdlib.h>

#include "peerd-rig.h"
#include "test.h"

static struct key key_of(uint32_t n)
{
    struct key k = {{1}};
    memcpy(k.b + 1, &n, sizeof n);
    return k;
}

/* As one that publishes something for anyone, and is full. */
static struct peerd *full(void)
{
    struct peerd *p = calloc(1, sizeof *p);
    CHECK(p && loop_init(&p->loop) == 0);
    list_init(&p->remotes);
    list_init(&p->dials);
    p->net.peerd = p;
    sockets_init(&p->net.sockets);
    tcpways_init(&p->net.tcpways, &p->net);
    for (uint32_t i = 0; i < REMOTES_MAX; i++) {
        struct key k = key_of(i);
        struct remote *r = remote_get(p, &k, "");
        CHECK(r != NULL);
        r->quiet_ms = 1000 + i;
    }
    return p;
}

static struct remote *at(struct peerd *p, uint32_t n)
{
    struct key k = key_of(n);
    return remote_find(p, &k);
}

static void allow(struct peerd *p, uint32_t n)
{
    struct allowed a = {.key = key_of(n), .service = STATE_ALL};
    CHECK_INT(state_allow(&p->state, &a), 0);
}

static void empty(struct peerd *p)
{
    list_for_each(r, &p->remotes, struct remote, link) remote_free(r);
    CHECK_INT(p->remote_count, 0);
    loop_done(&p->loop);
    free(p);
}

TEST("a friend comes in when strangers fill the table: the quietest of them goes")
{
    struct peerd *p = full();
    struct key friend = key_of(REMOTES_MAX);
    allow(p, REMOTES_MAX);
    at(p, 7)->quiet_ms = 5;
    CHECK(remote_get(p, &friend, "") != NULL);
    CHECK(!at(p, 7));
    CHECK(at(p, 0) != NULL);
    CHECK_INT(p->remote_count, REMOTES_MAX);
    empty(p);
}

TEST("who is allowed by key, known, called or has a session does not go for a stranger")
{
    struct peerd *p = full();
    struct key stranger = key_of(REMOTES_MAX);
    allow(p, 0);
    at(p, 1)->known = true;
    at(p, 2)->calling = true;
    at(p, 3)->session = (struct session *)p;
    CHECK(remote_get(p, &stranger, "") != NULL);
    for (uint32_t i = 0; i < 4; i++)
        CHECK(at(p, i) != NULL);
    CHECK(!at(p, 4));
    at(p, 3)->session = NULL;
    empty(p);
}

TEST("a stranger does not come in where there are only friends; a friend does")
{
    struct peerd *p = full();
    struct key other = key_of(REMOTES_MAX), friend = key_of(REMOTES_MAX + 1);
    list_for_each(r, &p->remotes, struct remote, link) r->known = true;
    CHECK(!remote_get(p, &other, ""));
    CHECK_INT(p->remote_count, REMOTES_MAX);
    allow(p, REMOTES_MAX + 1);
    CHECK(remote_get(p, &friend, "") != NULL);
    CHECK(!at(p, 0));
    empty(p);
}
