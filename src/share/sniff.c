/* The front of all sniffers: the bytes that were peeked come in, and the first protocol that is
 * sure of them goes out. Pure, as the sniffers are; everything lives in the caller's *ret. */
#include "share/sniff.h"

#include "wire/scratch.h"

struct sniffer {
    enum proto proto;
    sniff_fn *fn;
};

/* What comes most often stands first. The order decides nothing else: no bytes make two of them
 * say DONE. */
static const struct sniffer sniffers[] = {
    {PROTO_HTTP, http1_sniff},  {PROTO_TLS, tlshello_sniff},      {PROTO_H2, http2_sniff},
    {PROTO_SSH, ssh_sniff},     {PROTO_POSTGRES, postgres_sniff}, {PROTO_REDIS, redis_sniff},
    {PROTO_MQTT, mqtt_sniff},   {PROTO_XMPP, xmpp_sniff},         {PROTO_RDP, rdp_sniff},
    {PROTO_SOCKS, socks_sniff},
};

static const char *const names[PROTO_COUNT] = {
    [PROTO_NONE] = "none", [PROTO_HTTP] = "http",         [PROTO_H2] = "h2",
    [PROTO_TLS] = "tls",   [PROTO_SSH] = "ssh",           [PROTO_SOCKS] = "socks",
    [PROTO_RDP] = "rdp",   [PROTO_POSTGRES] = "postgres", [PROTO_REDIS] = "redis",
    [PROTO_MQTT] = "mqtt", [PROTO_XMPP] = "xmpp",
};

const char *proto_name(enum proto proto)
{
    return (unsigned)proto < PROTO_COUNT ? names[proto] : names[PROTO_NONE];
}

enum sniff_verdict sniff_bytes(struct str in, struct sniffed *ret)
{
    enum proto maybe = PROTO_NONE;
    if (in.n == 0) {
        sniffed_reset(ret, PROTO_NONE);
        return SNIFF_MORE;
    }
    bool full = in.n >= SNIFF_BYTES_MAX;
    if (full)
        in.n = SNIFF_BYTES_MAX;
    for (size_t i = 0; i < sizeof sniffers / sizeof *sniffers; i++) {
        enum sniff_verdict v = sniffers[i].fn(in, ret);
        if (v == SNIFF_DONE || v == SNIFF_BAD)
            return v;
        if (v == SNIFF_MORE && maybe == PROTO_NONE)
            maybe = sniffers[i].proto;
    }
    sniffed_reset(ret, maybe);
    if (maybe == PROTO_NONE)
        return SNIFF_NOT;
    return full ? sniffed_bad(ret, "TooLarge") : SNIFF_MORE;
}
