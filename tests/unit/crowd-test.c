/* More peers than there may be: who goes, who stays. */
#include "peerd/crowd.h"

#include <stdlib.h>

#include "peerd-rig.h"
#include "session/internal.h"
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

/* Sessions ------------------------------------------------------------------------------------- */

static uint64_t no_time(void *ctx)
{
    (void)ctx;
    return 1;
}

static bool no_send(void *ctx, const struct quic_path *path, const void *bytes, size_t n,
                    size_t segment)
{
    (void)ctx, (void)path, (void)bytes, (void)n, (void)segment;
    return true;
}

static void no_timer(void *ctx, uint64_t at_ns)
{
    (void)ctx, (void)at_ns;
}

static void ended(void *ctx, struct session *s, const char *reason)
{
    (void)ctx;
    if (session_user(s))
        CHECK(strcmp(reason, "Busy") == 0);
}

static struct peerd *with_endpoint(void)
{
    static const struct session_host host = {
        .now = no_time, .send = no_send, .timer = no_timer, .down = ended};
    struct peerd *p = calloc(1, sizeof *p);
    CHECK(p && loop_init(&p->loop) == 0);
    list_init(&p->remotes);
    identity_make(&p->id);
    CHECK_INT(endpoint_new(&host, p, &p->loop, &p->id, &p->net.endpoint), 0);
    return p;
}

/* As if the other side had made it. */
static struct session *made_by(struct peerd *p, struct remote *r)
{
    struct quic_path path = {NET_PATH_UDP, addr_make(AF_INET, (uint8_t[4]){192, 0, 2, 1}, 1)};
    struct identity id;
    struct session *s = NULL;
    identity_make(&id);
    r->key = id.key;
    r->peerd = p;
    CHECK_INT(session_connect(p->net.endpoint, &r->key, &path, &s), 0);
    s->incoming = true;
    s->up = true;
    session_set_user(s, r);
    return s;
}

static unsigned count(struct peerd *p)
{
    struct endpoint_stats stats;
    endpoint_stat(p->net.endpoint, &stats);
    return stats.sessions;
}

TEST("of sessions that strangers made the quietest without streams goes; friends are not counted")
{
    struct peerd *p = with_endpoint();
    struct remote r[4] = {{.quiet_ms = 3}, {.quiet_ms = 1}, {.quiet_ms = 2}, {.known = true}};
    struct session *s[3];
    for (int i = 0; i < 3; i++)
        s[i] = made_by(p, &r[i]);
    struct session *friends = made_by(p, &r[3]);
    s[1]->stream_count = 1;
    CHECK(crowd_admits(p, &r[3], friends, 2));
    CHECK_INT(count(p), 4);

    struct remote late = {.quiet_ms = 9};
    struct session *new = made_by(p, &late);
    session_set_user(new, NULL);
    CHECK(crowd_admits(p, &late, new, 4));
    CHECK_INT(count(p), 5);
    CHECK(crowd_admits(p, &late, new, 3));
    CHECK_INT(count(p), 4);
    for (struct session *left = NULL; (left = endpoint_next(p->net.endpoint, left));)
        CHECK(left != s[2]);

    s[0]->stream_count = 1;
    CHECK(!crowd_admits(p, &late, new, 2));
    CHECK_INT(count(p), 4);
    s[0]->stream_count = s[1]->stream_count = 0;
    for (struct session *left = NULL; (left = endpoint_next(p->net.endpoint, left));)
        session_set_user(left, NULL);
    endpoint_free(p->net.endpoint);
    loop_done(&p->loop);
    free(p);
}
