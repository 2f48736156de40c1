/* Ports from a router: the codec of PCP and NAT-PMP, and the machine, against routers in memory. */
#include "guard.h"
#include "punch/portmap.h"
#include "test.h"

#include <errno.h>

#define SECOND 1000000ull

static struct addr address(const char *text)
{
    struct addr a = {.len = 0};
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

static void start(struct portmap *m)
{
    struct portmap_config c = {.gateway = address("192.168.1.1:5351"),
                               .client = address("192.168.1.7:4040"),
                               .protocol = IPPROTO_UDP,
                               .seed = 0x1234567890abcdef};
    portmap_init(m, &c, SECOND);
}

/* The next packet; its first byte is the version. */
static struct portmap_action sent(struct portmap *m, uint64_t now_us)
{
    struct portmap_action a = {.n = 0};
    CHECK(portmap_poll(m, now_us, &a));
    CHECK(!a.changed);
    return a;
}

static void changed(struct portmap *m, uint64_t now_us, enum portmap_state state,
                    const char *external)
{
    struct portmap_action a = {.n = 0};
    char text[ADDR_TEXT_MAX];
    CHECK(portmap_poll(m, now_us, &a) && a.changed);
    CHECK_INT(m->state, state);
    CHECK_TEXT(m->external.len ? addr_format(&m->external, text) : "-", external);
}

/* A PCP router's answer to a request. */
static struct str pcp_answer(const struct portmap_action *a, uint8_t result, const char *external,
                             uint8_t bytes[PCP_REQUEST_MAX])
{
    struct addr at = address(external);
    memcpy(bytes, a->bytes, PCP_REQUEST_MAX);
    bytes[1] |= 0x80;
    bytes[3] = result;
    bytes[42] = (uint8_t)(addr_port(&at) >> 8);
    bytes[43] = (uint8_t)addr_port(&at);
    memcpy(bytes + 56, &at.v4.sin_addr, 4);
    return (struct str){(const char *)bytes, PCP_REQUEST_MAX};
}

TEST("a PCP router maps the port, and is asked again at half of the lifetime")
{
    struct portmap m;
    uint8_t bytes[PCP_REQUEST_MAX];
    start(&m);
    struct portmap_action a = sent(&m, SECOND);
    CHECK_INT(a.n, 60);
    CHECK_INT(a.bytes[0], PCP_PCP);
    CHECK_INT(portmap_input(&m, pcp_answer(&a, 0, "11.0.0.5:5050", bytes), SECOND), 0);
    changed(&m, SECOND, PORTMAP_MAPPED, "11.0.0.5:5050");
    CHECK(!portmap_poll(&m, SECOND, &a));
    CHECK_INT(portmap_next(&m), (1 + PORTMAP_LIFETIME_S / 2) * SECOND);
    a = sent(&m, portmap_next(&m));
    CHECK_INT(a.bytes[42] << 8 | a.bytes[43], 5050); /* the same port again, please */
    CHECK_INT(portmap_input(&m, pcp_answer(&a, 0, "11.0.0.6:5050", bytes), 4000 * SECOND), 0);
    changed(&m, 4000 * SECOND, PORTMAP_MAPPED, "11.0.0.6:5050");
    portmap_close(&m, 4001 * SECOND);
    a = sent(&m, 4001 * SECOND);
    CHECK(memcmp(a.bytes + 4, "\0\0\0\0", 4) == 0);
    CHECK_INT(portmap_next(&m), -1);
}

TEST("what is mapped stays so while the router is asked again, until it does not answer")
{
    struct portmap m;
    uint8_t bytes[PCP_REQUEST_MAX];
    uint64_t now = 2 * SECOND;
    start(&m);
    struct portmap_action a = sent(&m, SECOND);
    portmap_renew(&m, SECOND); /* it is being asked */
    CHECK(!portmap_poll(&m, SECOND, &a));
    portmap_init(&m, &m.c, SECOND);
    a = sent(&m, SECOND);
    CHECK_INT(portmap_input(&m, pcp_answer(&a, 0, "11.0.0.5:5050", bytes), SECOND), 0);
    changed(&m, SECOND, PORTMAP_MAPPED, "11.0.0.5:5050");
    portmap_renew(&m, now);
    a = sent(&m, now);
    CHECK_INT(m.state, PORTMAP_MAPPED);
    CHECK_INT(a.bytes[42] << 8 | a.bytes[43], 5050);
    while (m.state == PORTMAP_MAPPED && now < 60 * SECOND)
        if (!portmap_poll(&m, now, &a))
            now = portmap_next(&m);
    CHECK_INT(m.state, PORTMAP_SILENT);
}

TEST("an external address that is private or a carrier's is useless")
{
    static const char *const inner[] = {"192.168.5.5:5", "100.64.1.1:5"};
    for (size_t i = 0; i < 2; i++) {
        struct portmap m;
        uint8_t bytes[PCP_REQUEST_MAX];
        start(&m);
        struct portmap_action a = sent(&m, SECOND);
        CHECK_INT(portmap_input(&m, pcp_answer(&a, 0, inner[i], bytes), SECOND), 0);
        changed(&m, SECOND, PORTMAP_USELESS, inner[i]);
    }
}

TEST("a router that knows only NAT-PMP is asked so")
{
    static const char unsupported[] = "\x00\x81\x00\x01\x00\x00\x00\x09";
    static const char external[] = "\x00\x80\x00\x00\x00\x00\x00\x09\x0b\x00\x00\x05";
    static const char mapped[] = "\x00\x81\x00\x00\x00\x00\x00\x09\x0f\xc8\x13\xba\x00\x00\x0e\x10";
    struct portmap m;
    start(&m);
    struct portmap_action a = sent(&m, SECOND);
    CHECK_INT(portmap_input(&m, (struct str){unsupported, 8}, SECOND), 0);
    a = sent(&m, SECOND);
    CHECK_INT(a.n, 2);
    CHECK_INT(portmap_input(&m, (struct str){external, 12}, SECOND), 0);
    a = sent(&m, SECOND);
    CHECK_INT(a.n, 12);
    CHECK_INT(a.bytes[1], 1);
    CHECK_INT(portmap_input(&m, (struct str){mapped, 16}, SECOND), 0);
    changed(&m, SECOND, PORTMAP_MAPPED, "11.0.0.5:5050");
    CHECK_INT(portmap_next(&m), 1801 * SECOND);
}

TEST("a router that says nothing is silent, and asked anew much later")
{
    struct portmap m;
    struct portmap_action a;
    unsigned packets = 0;
    uint64_t now_us = SECOND;
    start(&m);
    while (!(portmap_poll(&m, now_us, &a) && a.changed)) {
        packets += a.n > 0;
        a.n = 0;
        now_us = portmap_next(&m);
        CHECK(packets < 20);
    }
    CHECK_INT(m.state, PORTMAP_SILENT);
    CHECK_INT(packets, 2 + PORTMAP_TRIES);
    CHECK(now_us < 6 * SECOND);
    CHECK(portmap_next(&m) > 600 * SECOND);
}

TEST("a refusal is final for a while, and answers that nobody asked for change nothing")
{
    struct portmap m;
    uint8_t bytes[PCP_REQUEST_MAX];
    start(&m);
    struct portmap_action a = sent(&m, SECOND);
    struct str answer = pcp_answer(&a, 0, "11.0.0.5:5050", bytes);
    bytes[24] ^= 1; /* another nonce */
    CHECK_INT(portmap_input(&m, answer, SECOND), -ENOENT);
    CHECK_INT(portmap_input(&m, (struct str){"\x02\x01\x00\x00", 4}, SECOND), -EBADMSG);
    CHECK_INT(portmap_input(&m, pcp_answer(&a, 2, "11.0.0.5:5050", bytes), SECOND), 0);
    changed(&m, SECOND, PORTMAP_REFUSED, "-");
    CHECK_INT(portmap_input(&m, pcp_answer(&a, 0, "11.0.0.5:5050", bytes), SECOND), -ENOENT);
}

TEST("answers that are cut off anywhere are refused")
{
    static const char external[] = "\x00\x80\x00\x00\x00\x00\x00\x09\x0b\x00\x00\x05";
    struct portmap m;
    uint8_t bytes[PCP_REQUEST_MAX];
    struct pcp_answer got;
    start(&m);
    struct portmap_action a = sent(&m, SECOND);
    struct str answer = pcp_answer(&a, 0, "11.0.0.5:5050", bytes);
    for (size_t n = 0; n < answer.n; n++) {
        const void *at = guard_copy(answer.p, n);
        CHECK_INT(pcp_decode(&got, at, n), -EBADMSG);
        guard_free(at, n);
    }
    for (size_t n = 0; n < 12; n++)
        CHECK_INT(pcp_decode(&got, external, n), -EBADMSG);
    CHECK_INT(pcp_decode(&got, answer.p, answer.n), 0);
}

TEST("the gateway is the one of the default route")
{
    static const char routes[] =
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    struct addr gateway;
    char text[ADDR_TEXT_MAX];
    CHECK_INT(portmap_gateway(STR(routes), &gateway), 0);
    CHECK_TEXT(addr_format(&gateway, text), "192.168.1.1:5351");
    CHECK_INT(portmap_gateway(STR("Iface\n"), &gateway), -ENOENT);
}
