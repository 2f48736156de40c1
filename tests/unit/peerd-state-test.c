/* The file of publications: what is written is read again, and nothing else is. */
#include <stdlib.h>

#include "peerd/state.h"
#include "test.h"

static struct key key_of(uint8_t byte)
{
    struct key k;
    memset(k.b, byte, sizeof k.b);
    return k;
}

static struct allowed allow(uint8_t byte, const char *service)
{
    struct allowed a = {.key = key_of(byte), .name = "laptop"};
    (void)snprintf(a.service, sizeof a.service, "%s", service);
    return a;
}

static void fill(struct state *s)
{
    struct allowed one = allow(1, "web"), all = allow(2, STATE_ALL);
    CHECK(state_publish(s, &(struct publication){
                               .service = "web", .to = "127.0.0.1:3000", .port = 3000}) == 0);
    CHECK(state_publish(s, &(struct publication){.service = "open", .anyone = true}) == 0);
    CHECK(state_publish(s, &(struct publication){.service = "ssh", .proxy = true}) == 0);
    CHECK(state_allow(s, &one) == 0 && state_allow(s, &all) == 0);
    CHECK(state_server_add(s, "rdv.example:3478") == 1);
    s->port = 4711;
}

TEST("what was written is read again")
{
    struct state *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    fill(a);
    char *text = state_format(a);
    CHECK(state_parse(b, text) == 0);
    char *again = state_format(b);
    CHECK(strcmp(text, again) == 0);
    CHECK(b->port == 4711 && b->server_count == 1 && b->publication_count == 3);
    free(text);
    free(again);
    free(a);
    free(b);
}

TEST("a file that makes no sense is refused")
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"version\": 2, \"port\": 0}",
        "{\"version\": 1, \"port\": 70000}",
        "{\"version\": 1, \"port\": 1, \"services\": [{\"service\": \"Not a name\", \"to\": "
        "\"\"}]}",
        "{\"version\": 1, \"port\": 1, \"allowed\": [{\"key\": \"x\", \"name\": \"\", "
        "\"service\": \"*\"}]}",
        "{\"version\": 1, \"port\": 1, \"servers\": [1]}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct state *s = calloc(1, sizeof *s);
        CHECK(state_parse(s, texts[i]) == -EBADMSG);
        free(s);
    }
}

TEST("only who is allowed may, and only there")
{
    struct state *s = calloc(1, sizeof *s);
    struct key one = key_of(1), all = key_of(2), none = key_of(3);
    CHECK(!state_may(s, &one, STR("")));
    fill(s);
    CHECK(state_may(s, &one, STR("web")) && !state_may(s, &one, STR("ssh")));
    CHECK(state_may(s, &all, STR("web")) && state_may(s, &all, STR("ssh")));
    CHECK(!state_may(s, &none, STR("web")) && state_may(s, &none, STR("open")));
    CHECK(!state_may(s, &all, STR("nothing")));
    CHECK(state_may(s, &none, STR("")));
    struct publication *open = state_publication(s, STR("open"));
    state_unpublish(s, open);
    CHECK(!state_may(s, &none, STR("")) && state_may(s, &one, STR("")));
    free(s);
}

TEST("what is denied is denied, and with the service its list goes")
{
    struct state *s = calloc(1, sizeof *s);
    struct key one = key_of(1), all = key_of(2);
    fill(s);
    CHECK(!state_deny(s, &one, "ssh"));
    CHECK(state_lists(s, &one) && state_lists(s, &all));
    CHECK(state_deny(s, &all, STATE_ALL) && !state_lists(s, &all) &&
          !state_may(s, &all, STR("web")));
    state_unpublish(s, state_publication(s, STR("web")));
    CHECK(s->allowed_count == 0 && !state_deny(s, &one, "web"));
    free(s);
}

TEST("there is an end to lists")
{
    struct state *s = calloc(1, sizeof *s);
    for (int i = 0; i < STATE_ALLOWED_MAX; i++) {
        struct allowed a = allow((uint8_t)i, "web");
        CHECK(state_allow(s, &a) == 0 && state_allow(s, &a) == 0);
    }
    struct allowed more = allow(200, "web");
    CHECK(state_allow(s, &more) == -ENOSPC);
    for (int i = 0; i < STATE_PUBLICATIONS_MAX; i++) {
        struct publication p = {.to = ""};
        (void)snprintf(p.service, sizeof p.service, "s%d", i);
        CHECK(state_publish(s, &p) == 0);
    }
    CHECK(state_publish(s, &(struct publication){.service = "more"}) == -ENOSPC);
    CHECK(state_publish(s, &(struct publication){.service = "s1", .anyone = true}) == 0);
    free(s);
}
