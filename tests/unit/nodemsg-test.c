/* What servers tell each other: every message comes out as it went in, and nothing shorter does. */
#include "wire/nodemsg.h"

#include "test.h"

static struct nodemsg make(enum nodemsg_type type, const char *seen)
{
    struct nodemsg m = {.type = type, .request = 0x0102030405060708, .message = STR("\5\1bytes")};
    memset(m.node, 7, sizeof m.node);
    memset(m.key, 9, sizeof m.key);
    CHECK_INT(addr_parse(seen, &m.seen), 0);
    if (type == NODEMSG_ALIVE)
        m.message = STR("");
    return m;
}

static void round_trip(enum nodemsg_type type, const char *seen)
{
    struct nodemsg m = make(type, seen), back = {.type = 0};
    uint8_t buf[NODEMSG_MAX];
    char text[ADDR_TEXT_MAX];
    int n = nodemsg_encode(&m, buf, sizeof buf);
    CHECK_INT(nodemsg_decode(&back, buf, (size_t)n), 0);
    CHECK_INT(back.type, type);
    CHECK(str_eq(back.message, m.message));
    if (type == NODEMSG_ASK || type == NODEMSG_SEARCH) {
        CHECK_TEXT(addr_format(&back.seen, text), seen);
        CHECK(memcmp(back.node, m.node, sizeof m.node) == 0);
    }
    if (type == NODEMSG_PUSH)
        CHECK(memcmp(back.key, m.key, sizeof m.key) == 0);
    if (type != NODEMSG_PUSH && type != NODEMSG_ALIVE)
        CHECK(back.request == m.request);
    for (int cut = 0; cut < n; cut++)
        CHECK_INT(nodemsg_decode(&back, buf, (size_t)cut), -EBADMSG);
    CHECK_INT(nodemsg_encode(&m, buf, (size_t)n - 1), -EMSGSIZE);
    buf[n] = 0;
    CHECK_INT(nodemsg_decode(&back, buf, (size_t)n + 1), -EBADMSG);
}

TEST("every message comes out as it went in, and is refused when it is cut or longer")
{
    round_trip(NODEMSG_ASK, "192.0.2.7:4711");
    round_trip(NODEMSG_ASK, "[2001:db8::7]:4711");
    round_trip(NODEMSG_SEARCH, "192.0.2.7:4711");
    round_trip(NODEMSG_REPLY, "192.0.2.7:4711");
    round_trip(NODEMSG_PUSH, "192.0.2.7:4711");
    round_trip(NODEMSG_ALIVE, "192.0.2.7:4711");
}

TEST("other versions, types and families are refused")
{
    struct nodemsg m = make(NODEMSG_ASK, "192.0.2.7:4711"), back;
    uint8_t buf[NODEMSG_MAX];
    int n = nodemsg_encode(&m, buf, sizeof buf);
    const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{0, 0}, {0, 2}, {1, 0}, {1, NODEMSG_END}, {1, 255}, {10, 0}, {10, 5}, {10, 6}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t was = buf[wrong[i].at];
        buf[wrong[i].at] = wrong[i].value;
        CHECK_INT(nodemsg_decode(&back, buf, (size_t)n), -EBADMSG);
        buf[wrong[i].at] = was;
    }
    CHECK_INT(nodemsg_decode(&back, buf, (size_t)n), 0);
}
