/* The header of a stream: bytes in, values out. */
#include "session/header.h"

#include <assert.h>

#include "base/rd.h"
#include "base/wr.h"

bool stream_service_is_fit(struct str service)
{
    for (size_t i = 0; i < service.n; i++)
        if (service.p[i] <= ' ' || service.p[i] >= 0x7f)
            return false;
    return service.n > 0 && service.n <= STREAM_SERVICE_MAX;
}

size_t stream_header_encode(struct str service, uint8_t buf[STREAM_HEADER_MAX])
{
    assert(service.n <= STREAM_SERVICE_MAX);
    struct wr w = wr_init(buf, STREAM_HEADER_MAX);
    wr_u8(&w, STREAM_VERSION);
    wr_u8(&w, (uint8_t)service.n);
    wr_bytes(&w, service.p, service.n);
    return w.used;
}

int stream_header_decode(const void *bytes, size_t n, struct str *ret_service, size_t *ret_size)
{
    struct rd r = rd_init(bytes, n);
    uint8_t version = rd_u8(&r), length = rd_u8(&r);
    if (n >= 1 && version != STREAM_VERSION)
        return -EBADMSG;
    if (n >= 2 && (length == 0 || length > STREAM_SERVICE_MAX))
        return -EBADMSG;
    struct str service = rd_bytes(&r, length);
    if (!rd_ok(&r))
        return -EAGAIN;
    if (!stream_service_is_fit(service))
        return -EBADMSG;
    *ret_service = service;
    *ret_size = n - r.left;
    return 0;
}
