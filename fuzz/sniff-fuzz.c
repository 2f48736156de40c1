/* Any bytes come in as the first ones of a connection; the answer of all sniffers together, and the
 * refusal that would follow, are checked. */
#include "share/sniff.h"

#include "sniff-fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sniff_fn *const sniffers[] = {
    http1_sniff,    http2_sniff, tlshello_sniff, ssh_sniff,  socks_sniff,
    postgres_sniff, redis_sniff, mqtt_sniff,     xmpp_sniff, rdp_sniff,
};

/* The order of the sniffers must not matter. */
static void check_only_one(struct str in)
{
    int sure = 0;
    for (size_t i = 0; i < sizeof sniffers / sizeof *sniffers; i++) {
        struct sniffed s;
        sure += fuzz_is_final(sniffers[i](in, &s));
    }
    fuzz_require(sure <= 1);
}

static void check_refusal(const struct sniffed *s, enum reason reason, size_t size)
{
    char buf[4096], text[3000];
    memset(text, 'a', sizeof text);
    size = size < sizeof buf ? size : sizeof buf;
    struct str r = sniff_refusal(s, &(struct refusal){.reason = reason, .retry_s = UINT32_MAX},
                                 (struct str){text, sizeof text}, buf, size);
    fuzz_require(r.n <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sniffed s;
    struct str in = {(const char *)data, size};
    enum sniff_verdict v = sniff_bytes(in, &s);
    fuzz_answer(v, in, &s);
    fuzz_require(v != SNIFF_MORE || size < SNIFF_BYTES_MAX);
    enum reason bad = v == SNIFF_BAD ? reason_find(s.reason) : REASON_NONE;
    fuzz_require(v != SNIFF_BAD || bad != REASON_NONE);
    check_refusal(&s, bad ? bad : REASON_QUEUE_FULL, size);
    check_refusal(&s, REASON_NO_ROUTE, 4096);
    in.n = size < SNIFF_BYTES_MAX ? size : SNIFF_BYTES_MAX;
    check_only_one(in);
    fuzz_sniffer(sniff_bytes, data, size);
    return 0;
}
