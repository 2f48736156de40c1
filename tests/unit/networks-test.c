/* What is known of networks: kept in a file, bounded, and read whatever is in it. */
#include "peerd/networks.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test.h"

static char folder[] = "/tmp/berth-networks-XXXXXX";
static char path[64];

__attribute__((constructor)) static void prepare(void)
{
    if (!mkdtemp(folder))
        abort();
    (void)snprintf(path, sizeof path, "%s/networks", folder);
}

__attribute__((destructor)) static void clean(void)
{
    (void)unlink(path);
    (void)rmdir(folder);
}

static struct addr addr(const char *text)
{
    struct addr a;
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

static struct network sample(const char *gateway, const char *own, uint64_t at_s)
{
    struct network n = {
        .id.own = addr(own),
        .seen = addr("203.0.113.7:4000"),
        .nat = {NAT_MAPPING_APDM, NAT_FILTERING_APDF, NAT_ALLOCATION_SEQUENCE, 2, 0},
        .at_s = at_s};
    (void)snprintf(n.id.gateway, sizeof n.id.gateway, "%s", gateway);
    return n;
}

TEST("a network is known again by its gateway and our address, from a file, too")
{
    struct networks n;
    struct network home = sample("02:00:00:00:00:01", "192.168.1.5:1111", 1000);
    CHECK_INT(networks_load(&n, path), 0);
    CHECK(networks_note(&n, &home));
    home.at_s = 1001;
    CHECK(!networks_note(&n, &home));
    CHECK_INT(networks_save(&n), 0);
    networks_done(&n);
    CHECK_INT(networks_load(&n, path), 0);
    CHECK_INT(n.count, 1);
    struct network_id id = home.id;
    addr_set_port(&id.own, 2222);
    const struct network *found = networks_find(&n, &id, 2000);
    CHECK(found);
    if (found) {
        CHECK_INT(found->nat.mapping, NAT_MAPPING_APDM);
        CHECK_INT(found->nat.allocation, NAT_ALLOCATION_SEQUENCE);
        CHECK_INT(found->nat.delta, 2);
    }
    CHECK(!networks_find(&n, &id, 1001 + NETWORKS_FRESH_S));
    CHECK(!networks_find(&n, &id, 5)); /* a clock that was wrong once */
    id.gateway[0] = '1';
    CHECK(!networks_find(&n, &id, 2000));
    networks_done(&n);
}

TEST("the network that was not used for longest goes")
{
    struct networks n = {.count = 0};
    char gateway[NETWORK_GATEWAY_MAX];
    for (unsigned i = 0; i <= NETWORKS_MAX; i++) {
        (void)snprintf(gateway, sizeof gateway, "02:00:00:00:00:%02x", i);
        struct network one = sample(gateway, "10.0.0.2:1", i == 3 ? 1 : 100 + i);
        CHECK(networks_note(&n, &one));
    }
    CHECK_INT(n.count, NETWORKS_MAX);
    struct network gone = sample("02:00:00:00:00:03", "10.0.0.2:1", 0);
    struct network there = sample("02:00:00:00:00:04", "10.0.0.2:1", 0);
    CHECK(!networks_find(&n, &gone.id, 1000));
    CHECK(networks_find(&n, &there.id, 1000));
}

TEST("lines that make no sense are passed over")
{
    static const char text[] =
        "02:00:00:00:00:01 10.0.0.2:1 203.0.113.7:4 2 3 1 0 0 1000\n"
        "garbage\n\n \n"
        "gw 10.0.0.2:1 203.0.113.7:4 99 3 1 0 0 1000\n"
        "gw 10.0.0.2:1 203.0.113.7:4 2 3 1 99999 0 1000\n"
        "gw 10.0.0.2:1 203.0.113.7:4 2 3 1 0 0 1000 more\n"
        "gw nowhere 203.0.113.7:4 2 3 1 0 0 1000\n"
        "gw 10.0.0.2:1 203.0.113.7:4 2 3 1 0 0 -4\n"
        "gw 10.0.0.2:1 203.0.113.7:4 x 3 1 0 0 4\n"
        "0123456789012345678901234567890123456789012345678901234567890 10.0.0.2:1 "
        "203.0.113.7:4 2 3 1 0 0 1000\n";
    struct networks n;
    FILE *f = fopen(path, "we");
    CHECK(f);
    if (!f)
        return;
    CHECK_INT(fwrite(text, 1, sizeof text, f), sizeof text); /* with a NUL at its end */
    for (int i = 0; i < 5000; i++)
        (void)fputc(i * 37 & 0xff, f);
    (void)fclose(f);
    CHECK_INT(networks_load(&n, path), 0);
    CHECK_INT(n.count, 1);
    networks_done(&n);
}

TEST("a gateway is known by its MAC where the kernel has it, else by its address")
{
    static const char routes[] = "Iface\tDestination\tGateway\tFlags\n"
                                 "eth0\t0000A8C0\t00000000\t0001\n"
                                 "eth0\t00000000\t0101A8C0\t0003\t0\n";
    static const char arp[] = "IP address HW type Flags HW address Mask Device\n"
                              "192.168.1.9 0x1 0x2 02:00:00:00:00:09 * eth0\n"
                              "192.168.1.1 0x1 0x2 02:fc:00:00:00:05 * eth0\n";
    char gateway[NETWORK_GATEWAY_MAX];
    network_gateway(STR(routes), STR(arp), gateway);
    CHECK_TEXT(gateway, "02:fc:00:00:00:05");
    network_gateway(STR(routes), STR(""), gateway);
    CHECK_TEXT(gateway, "192.168.1.1");
    network_gateway(STR("garbage\n"), STR(arp), gateway);
    CHECK_TEXT(gateway, "-");
    network_gateway(STR(""), STR(""), gateway);
    CHECK_TEXT(gateway, "-");
}
