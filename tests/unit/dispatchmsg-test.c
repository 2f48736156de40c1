#include "test.h"
#include "wire/dispatchmsg.h"

TEST("a claim survives the channel")
{
    uint8_t buf[DISPATCHMSG_MAX];
    struct dispatchmsg m = {.type = DISPATCH_CLAIM,
                            .id = 7,
                            .queue = 3,
                            .app = 2,
                            .v6only = true,
                            .route = STR("http://a.b/")},
                       d;
    CHECK_INT(addr_parse("[::]:80", &m.addr), 0);
    int n = dispatchmsg_encode(&m, buf, sizeof buf);
    CHECK(n > 0);
    CHECK_INT(dispatchmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(d.id, 7);
    CHECK_INT(d.queue, 3);
    CHECK(d.v6only);
    CHECK(addr_equal(&d.addr, &m.addr));
    CHECK_STR(d.route, "http://a.b/");
}

TEST("a Unix listener keeps its path")
{
    uint8_t buf[DISPATCHMSG_MAX];
    struct dispatchmsg m = {.type = DISPATCH_LISTENER, .id = 1}, d;
    CHECK_INT(addr_parse("unix:/run/web.sock", &m.addr), 0);
    int n = dispatchmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(dispatchmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_TEXT(d.addr.un.sun_path, "/run/web.sock");
    CHECK_INT(d.addr.len, m.addr.len);
}

TEST("every cut of a channel message is refused")
{
    uint8_t buf[DISPATCHMSG_MAX];
    struct dispatchmsg m = {.type = DISPATCH_OPTION, .id = 1, .value = STR("\1\0\0\0")}, d;
    int n = dispatchmsg_encode(&m, buf, sizeof buf);
    for (int i = 0; i < n; i++)
        CHECK_INT(dispatchmsg_decode(&d, buf, (size_t)i), -EBADMSG);
    buf[n] = 0;
    CHECK_INT(dispatchmsg_decode(&d, buf, (size_t)n + 1), -EBADMSG);
}
