/* The messages of a source. */
#include "test.h"
#include "wire/streammsg.h"

static struct streammsg stream(void)
{
    struct streammsg m = {
        .type = STREAMMSG_STREAM, .id = 0x01020304, .service = STR("web"), .name = STR("laptop")};
    memset(m.key, 0xab, sizeof m.key);
    return m;
}

TEST("a stream comes back as it was")
{
    uint8_t buf[STREAMMSG_MAX];
    struct streammsg m = stream(), got;
    int n = streammsg_encode(&m, buf, sizeof buf);
    CHECK_INT(n, 4 + 5 + 32 + 4 + 7);
    CHECK_INT(streammsg_decode(&got, buf, (size_t)n), 0);
    CHECK_INT(got.id, m.id);
    CHECK_STR(got.service, "web");
    CHECK_STR(got.name, "laptop");
    CHECK(memcmp(got.key, m.key, sizeof m.key) == 0);
}

TEST("an answer comes back as it was")
{
    uint8_t buf[STREAMMSG_MAX];
    struct streammsg got;
    int n = streammsg_encode(
        &(struct streammsg){.type = STREAMMSG_ANSWER, .id = 7, .flags = 1, .result = 13}, buf,
        sizeof buf);
    CHECK_INT(streammsg_decode(&got, buf, (size_t)n), 0);
    CHECK_INT(got.id, 7);
    CHECK_INT(got.flags, STREAMMSG_PROXY);
    CHECK_INT(got.result, 13);
}

TEST("what is cut off, or longer, is no message")
{
    uint8_t buf[STREAMMSG_MAX] = {0};
    struct streammsg m = stream(), got;
    int n = streammsg_encode(&m, buf, sizeof buf);
    for (int i = 0; i < n; i++)
        CHECK_INT(streammsg_decode(&got, buf, (size_t)i), -EBADMSG);
    CHECK_INT(streammsg_decode(&got, buf, (size_t)n + 1), -EBADMSG);
}

TEST("services and names follow the rule for names")
{
    static const char *const bad[] = {"", "-a", "a-", "A", "a.b", "a b", "a\n"};
    uint8_t buf[STREAMMSG_MAX];
    struct streammsg got;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct streammsg m = stream();
        m.service = str_of(bad[i]);
        int n = streammsg_encode(&m, buf, sizeof buf);
        CHECK_INT(streammsg_decode(&got, buf, (size_t)n), -EBADMSG);
        m = stream();
        m.name = str_of(bad[i]);
        n = streammsg_encode(&m, buf, sizeof buf);
        CHECK_INT(streammsg_decode(&got, buf, (size_t)n), bad[i][0] ? -EBADMSG : 0);
    }
}

TEST("a name that is too long is not sent")
{
    uint8_t buf[STREAMMSG_MAX];
    struct streammsg m = stream();
    m.service = STR("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddx");
    CHECK_INT(streammsg_encode(&m, buf, sizeof buf), -EMSGSIZE);
}
