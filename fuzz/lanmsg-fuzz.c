/* Any bytes come in as a datagram of the local network, or as what was in its box; what decodes
 * must encode alike. */
#include <assert.h>

#include "wire/lanmsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void boxes(const uint8_t *data, size_t size)
{
    uint8_t buf[LANMSG_ANSWER_PLAIN];
    struct lan_query q;
    struct lan_answer a;
    int n;
    if (lan_query_decode(&q, data, size) == 0) {
        n = lan_query_encode(&q, buf, sizeof buf);
        assert(n == LANMSG_QUERY_PLAIN && memcmp(buf, data, (size_t)n) == 0);
    }
    if (lan_answer_decode(&a, data, size) == 0) {
        n = lan_answer_encode(&a, buf, sizeof buf);
        assert(n > 0 && (size_t)n <= size && memcmp(buf, data, (size_t)n) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[LANMSG_MAX];
    struct lanmsg m, d;
    boxes(data, size);
    if (lanmsg_decode(&m, data, size) < 0)
        return 0;
    int n = lanmsg_encode(&m, buf, sizeof buf);
    assert(n > 0 && (size_t)n == size);
    int e = lanmsg_decode(&d, buf, (size_t)n);
    assert(e == 0 && d.sealed.n == m.sealed.n);
    return 0;
}
