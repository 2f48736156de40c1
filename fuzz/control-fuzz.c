/* The control protocol, the channel to dispatch and the names of queues: what decodes must encode
 * to the same bytes again, and whatever it is, decoding stays inside it. */
#include <assert.h>

#include "wire/appmsg.h"
#include "wire/dispatchmsg.h"

static void app(const uint8_t *data, size_t size)
{
    uint8_t buf[APPMSG_MAX * 2];
    struct appmsg m, again;
    if (size > APPMSG_MAX || appmsg_decode(&m, data, size) < 0)
        return;
    int n = appmsg_encode(&m, buf, sizeof buf);
    assert(n >= 0 && (size_t)n == size);
    int r = appmsg_decode(&again, buf, (size_t)n);
    assert(r == 0);
}

static void dispatch(const uint8_t *data, size_t size)
{
    uint8_t buf[DISPATCHMSG_MAX * 2];
    struct dispatchmsg m;
    if (size > DISPATCHMSG_MAX || dispatchmsg_decode(&m, data, size) < 0)
        return;
    int n = dispatchmsg_encode(&m, buf, sizeof buf);
    assert(n >= 0 && (size_t)n <= size);
}

static void name(const uint8_t *data, size_t size)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = size < sizeof un.sun_path - 1 ? size : sizeof un.sun_path - 1;
    memcpy(un.sun_path, data, n);
    struct queue_name q;
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    if (queue_name_parse(&un, len, &q) < 0)
        return;
    struct sockaddr_un again;
    socklen_t again_len;
    queue_name_format(&q, &again, &again_len);
    assert(again_len == len && memcmp(&again, &un, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    app(data, size);
    dispatch(data, size);
    name(data, size);
    return 0;
}
