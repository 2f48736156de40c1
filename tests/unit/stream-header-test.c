/* The header of a stream, whole, in pieces and bad. */
#include "session/header.h"
#include "test.h"

#include <errno.h>

TEST("a header comes back as it was written, and no byte behind it is touched")
{
    uint8_t buf[STREAM_HEADER_MAX + 1];
    struct str service;
    size_t size, n = stream_header_encode(STR("web"), buf);
    buf[n] = 'x';
    CHECK_INT(n, 5);
    CHECK_INT(stream_header_decode(buf, n + 1, &service, &size), 0);
    CHECK_STR(service, "web");
    CHECK_INT(size, n);
}

TEST("each beginning of a header needs more")
{
    uint8_t buf[STREAM_HEADER_MAX];
    struct str service;
    size_t size, n = stream_header_encode(STR("some.service-1"), buf);
    for (size_t part = 0; part < n; part++)
        CHECK_INT(stream_header_decode(buf, part, &service, &size), -EAGAIN);
}

TEST("other versions, empty, long and unfit names are no headers")
{
    struct str service;
    size_t size;
    static const uint8_t other[] = {2}, empty[] = {1, 0}, longer[] = {1, 64}, space[] = {1, 1, ' '},
                         high[] = {1, 1, 0x80}, nul[] = {1, 2, 'a', 0};
    CHECK_INT(stream_header_decode(other, sizeof other, &service, &size), -EBADMSG);
    CHECK_INT(stream_header_decode(empty, sizeof empty, &service, &size), -EBADMSG);
    CHECK_INT(stream_header_decode(longer, sizeof longer, &service, &size), -EBADMSG);
    CHECK_INT(stream_header_decode(space, sizeof space, &service, &size), -EBADMSG);
    CHECK_INT(stream_header_decode(high, sizeof high, &service, &size), -EBADMSG);
    CHECK_INT(stream_header_decode(nul, sizeof nul, &service, &size), -EBADMSG);
}
