#include "test.h"
#include "wire/appmsg.h"

TEST("an application's introduction survives the wire")
{
    uint8_t buf[APPMSG_MAX];
    struct appmsg m = {.type = APPMSG_APP,
                       .flags = APPMSG_PROXY,
                       .instance = "0123456789abcde",
                       .name = STR("blog"),
                       .command = STR("python3 -m http.server"),
                       .routes = {STR("blog.localhost"), STR("ssh://:22")},
                       .route_count = 2,
                       .listens = {STR("unix:/tmp/x")},
                       .listen_count = 1};
    int n = appmsg_encode(&m, buf, sizeof buf);
    CHECK(n > 0);
    struct appmsg d;
    CHECK_INT(appmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(d.type, APPMSG_APP);
    CHECK_STR(d.name, "blog");
    CHECK_STR(d.routes[1], "ssh://:22");
    CHECK_INT(d.route_count, 2);
    CHECK_STR(d.listens[0], "unix:/tmp/x");
    CHECK_INT(memcmp(d.instance, m.instance, sizeof d.instance), 0);
}

TEST("a connection message carries both addresses")
{
    uint8_t buf[APPMSG_CONN_MAX];
    struct appmsg m = {.type = APPMSG_CONN, .flags = APPMSG_RICH, .proto = 1, .host = STR("a.b")};
    CHECK_INT(addr_parse("[2001:db8::1]:4711", &m.addr), 0);
    CHECK_INT(addr_parse("127.0.0.1:80", &m.local), 0);
    int n = appmsg_encode(&m, buf, sizeof buf);
    struct appmsg d;
    CHECK_INT(appmsg_decode(&d, buf, (size_t)n), 0);
    CHECK(addr_equal(&d.addr, &m.addr));
    CHECK(addr_equal(&d.local, &m.local));
    CHECK_STR(d.host, "a.b");
    CHECK_STR(d.path, "");
}

TEST("no truncated, lengthened or foreign message is taken")
{
    uint8_t buf[APPMSG_MAX];
    struct appmsg m = {.type = APPMSG_ERROR, .err = EADDRINUSE, .text = STR("taken")}, d;
    int n = appmsg_encode(&m, buf, sizeof buf);
    for (int i = 0; i < n; i++)
        CHECK_INT(appmsg_decode(&d, buf, (size_t)i), -EBADMSG);
    buf[n] = 0;
    CHECK_INT(appmsg_decode(&d, buf, (size_t)n + 1), -EBADMSG);
    buf[3] = APPMSG_TYPE_COUNT;
    CHECK_INT(appmsg_decode(&d, buf, (size_t)n), -EBADMSG);
    buf[3] = 0;
    CHECK_INT(appmsg_decode(&d, buf, (size_t)n), -EBADMSG);
}

TEST("a message that does not fit is not half written")
{
    uint8_t buf[8];
    struct appmsg m = {.type = APPMSG_TEXT, .text = STR("longer than the buffer")};
    CHECK_INT(appmsg_encode(&m, buf, sizeof buf), -EMSGSIZE);
}

TEST("a queue's name tells its address to whoever holds the descriptor")
{
    const char *texts[] = {"127.0.0.1:8080", "[::]:80", "[2001:db8::7]:65535"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct queue_name n = {.v6only = i == 2, .queue = 0xdeadbeef, .nonce = 7}, d;
        CHECK_INT(addr_parse(texts[i], &n.addr), 0);
        struct sockaddr_un un;
        socklen_t len;
        queue_name_format(&n, &un, &len);
        CHECK_INT(queue_name_parse(&un, len, &d), 0);
        CHECK(addr_equal(&d.addr, &n.addr));
        CHECK_INT(d.v6only, n.v6only);
        CHECK_INT(d.queue, 0xdeadbeef);
        CHECK_INT(queue_name_parse(&un, len - 1, &d), -EINVAL);
    }
    struct sockaddr_un other = {.sun_family = AF_UNIX, .sun_path = "/tmp/x"};
    struct queue_name d;
    CHECK_INT(queue_name_parse(&other, sizeof other, &d), -EINVAL);
}
