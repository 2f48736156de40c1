/* The STUN client that classifies a NAT, against a server and NATs in memory. */
#include "../sim/net.h"
#include "punch/gather.h"
#include "test.h"

#include <errno.h>

#define MS 1000u

struct world {
    struct sim *sim;
    struct gather *gather;
    bool knows_other; /* the server has a second address (RFC 5780) */
    unsigned lost;    /* requests that are lost before one arrives */
    unsigned sent;
    bool done;
};

static struct addr address(const char *text)
{
    struct addr a = {.len = 0};
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

/* Would the answer come through the NAT? */
static bool comes_back(const struct world *w, const struct stun *request)
{
    enum nat_filtering filtering = w->sim->a.nat.is.filtering;
    if (!request->has_change || filtering == NAT_FILTERING_EIF)
        return true;
    return request->change == STUN_CHANGE_PORT && filtering == NAT_FILTERING_ADF;
}

static void serve(struct world *w, const struct gather_action *a)
{
    struct stun request, answer = {.type = STUN_SUCCESS};
    uint8_t bytes[STUN_MAX];
    w->sent++;
    if (w->lost > 0) {
        w->lost--;
        return;
    }
    CHECK_INT(stun_decode(&request, a->bytes, a->n), 0);
    memcpy(answer.transaction, request.transaction, STUN_TRANSACTION);
    answer.mapped = sim_seen(w->sim, &w->sim->a, a->socket, a->to);
    if (w->knows_other)
        answer.other = address("11.0.0.2:3479");
    if (request.has_change && !w->knows_other) {
        answer.type = STUN_FAILURE;
        answer.error = 420;
    }
    int n = stun_encode(&answer, bytes, sizeof bytes);
    CHECK(n > 0);
    if (comes_back(w, &request) || answer.type == STUN_FAILURE)
        CHECK_INT(gather_input(w->gather, (struct str){(char *)bytes, (size_t)n}, w->sim->now_us),
                  0);
}

static void run(struct world *w)
{
    struct gather_action a;
    while (!w->done && w->sim->now_us < 60000 * MS) {
        while (gather_poll(w->gather, w->sim->now_us, &a)) {
            if (a.type == GATHER_SEND)
                serve(w, &a);
            for (unsigned i = 1; a.type == GATHER_OPEN && i <= a.count; i++) {
                (void)sim_seen(w->sim, &w->sim->b, i, a.to); /* gives the socket a port */
                w->sim->a.ports[i] = w->sim->b.ports[i];
                gather_opened(w->gather, i, w->sim->a.ports[i]);
            }
            w->done = w->done || a.type == GATHER_DONE;
        }
        uint64_t next_us = gather_next(w->gather);
        w->sim->now_us = next_us > w->sim->now_us ? next_us : w->sim->now_us + 1;
    }
    CHECK(w->done);
}

static struct gather_config config(struct world *w)
{
    struct gather_config c = {.server_count = 1, .fresh = 8, .filtering = true, .seed = 77};
    c.servers[0] = address("11.0.0.1:3478");
    (void)sim_seen(w->sim, &w->sim->a, 0, c.servers[0]);
    c.local = w->sim->a.inside;
    addr_set_port(&c.local, w->sim->a.ports[0]);
    return c;
}

static const char *fingerprint(const char *nat, struct world *w, char text[NAT_TEXT_MAX])
{
    w->sim = sim_new(nat, "none/eif/keep", 5);
    struct gather_config c = config(w);
    w->gather = gather_new(&c);
    run(w);
    struct gather_result r = gather_result(w->gather);
    gather_free(w->gather);
    sim_free(w->sim);
    return nat_format(&r.nat, text);
}

/* How long it took until the samples were there, and what was known then. */
static uint64_t first_word(const char *nat, char text[NAT_TEXT_MAX])
{
    struct gather_action a;
    struct world w = {.knows_other = true, .sim = sim_new(nat, "none/eif/keep", 5)};
    struct gather_config c = config(&w);
    uint64_t begun_us = w.sim->now_us;
    w.gather = gather_new(&c);
    while (!gather_has_samples(w.gather) && w.sim->now_us < 60000 * MS) {
        while (gather_poll(w.gather, w.sim->now_us, &a)) {
            if (a.type == GATHER_SEND)
                serve(&w, &a);
            for (unsigned i = 1; a.type == GATHER_OPEN && i <= a.count; i++)
                gather_opened(w.gather, i, 0);
        }
        uint64_t next_us = gather_next(w.gather);
        w.sim->now_us = next_us > w.sim->now_us ? next_us : w.sim->now_us + 1;
    }
    struct gather_result r = gather_result(w.gather);
    uint64_t taken_us = w.sim->now_us - begun_us;
    gather_free(w.gather);
    sim_free(w.sim);
    (void)nat_format(&r.nat, text);
    return taken_us;
}

static const char *const kinds[] = {"none/eif/keep",        "eim/eif/random",    "eim/adf/random",
                                    "eim/apdf/keep",        "adm/adf/random",    "apdm/apdf/random",
                                    "apdm/apdf/sequence+2", "apdm/apdf/block512"};

TEST("each kind of NAT is recognised, also when requests are lost")
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        for (unsigned lost = 0; lost < 3; lost++) {
            char text[NAT_TEXT_MAX];
            struct world w = {.knows_other = true, .lost = lost};
            CHECK_TEXT(fingerprint(kinds[i], &w, text), kinds[i]);
            CHECK(w.sent <= 24);
        }
    }
}

TEST("mapping and allocation are known before silence has told of the filtering")
{
    char text[NAT_TEXT_MAX];
    CHECK(first_word("apdm/apdf/sequence+2", text) < 50 * MS);
    CHECK_TEXT(text, "apdm/unknown/sequence+2");
    CHECK(first_word("eim/apdf/random", text) < 50 * MS);
    CHECK_TEXT(text, "eim/unknown/random");
}

TEST("one fresh socket is asked alone, and its answer is all that is wanted")
{
    struct gather_action a;
    struct world w = {.knows_other = true,
                      .sim = sim_new("apdm/apdf/sequence+2", "none/eif/keep", 5)};
    struct gather_config c = config(&w);
    c.fresh = 1;
    c.filtering = false;
    w.gather = gather_new(&c);
    while (gather_poll(w.gather, w.sim->now_us, &a))
        if (a.type == GATHER_SEND)
            serve(&w, &a);
    CHECK_INT(w.sent, 1);
    CHECK(gather_has_samples(w.gather));
    CHECK(gather_result(w.gather).newest.len > 0);
    gather_free(w.gather);
    sim_free(w.sim);
}

TEST("a server with one address tells little, and is not asked again for what it refuses")
{
    char text[NAT_TEXT_MAX];
    struct world w = {0};
    CHECK_TEXT(fingerprint("eim/apdf/random", &w, text), "unknown/unknown/random");
    CHECK_INT(w.sent, 9);
}

TEST("a network without answers is blocked, after four requests and one by each fresh socket")
{
    char text[NAT_TEXT_MAX];
    struct world w = {.lost = 1000};
    CHECK_TEXT(fingerprint("eim/apdf/random", &w, text), "blocked/unknown/unknown");
    CHECK_INT(w.sent, GATHER_TRIES + 8);
}

TEST("somebody else's answers are left to somebody else")
{
    struct world w = {.sim = sim_new("none/eif/keep", "none/eif/keep", 1)};
    struct gather_config c = config(&w);
    struct stun s = {.type = STUN_SUCCESS, .mapped = address("11.0.0.9:9")};
    uint8_t bytes[STUN_MAX];
    w.gather = gather_new(&c);
    int n = stun_encode(&s, bytes, sizeof bytes);
    CHECK_INT(gather_input(w.gather, (struct str){(char *)bytes, (size_t)n}, 5), -ENOENT);
    s.transaction[0] = 200;
    n = stun_encode(&s, bytes, sizeof bytes);
    CHECK_INT(gather_input(w.gather, (struct str){(char *)bytes, (size_t)n}, 5), -ENOENT);
    CHECK_INT(gather_input(w.gather, STR("no STUN"), 5), -EBADMSG);
    CHECK_INT(gather_result(w.gather).seen.len, 0);
    gather_free(w.gather);
    sim_free(w.sim);
}
