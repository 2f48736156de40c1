/* What berth-peer reads from its helper: a router's words, or anybody's. */
#include "peerd/mapping-upnp.h"

#include <errno.h>

#include "test.h"

static int parse(const char *line, struct upnp_answer *a)
{
    return upnp_answer_parse(str_of(line), a);
}

TEST("an address that a router mapped is taken, with its protocol")
{
    struct upnp_answer a;
    char text[ADDR_TEXT_MAX];
    CHECK_INT(parse("tcp mapped 11.1.0.10:40404", &a), 0);
    CHECK_INT(a.which, MAPPING_TCP);
    CHECK_INT(a.state, PORTMAP_MAPPED);
    CHECK_TEXT(addr_format(&a.external, text), "11.1.0.10:40404");
    CHECK_INT(parse("udp mapped 11.1.0.10:1", &a), 0);
    CHECK_INT(a.which, MAPPING_UDP);
}

TEST("a private or a carrier's address is useless")
{
    static const char *const lines[] = {"udp mapped 192.168.1.2:5", "udp mapped 100.64.3.4:5",
                                        "udp mapped 10.0.0.1:5", "udp mapped 127.0.0.1:5"};
    struct upnp_answer a;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CHECK_INT(parse(lines[i], &a), 0);
        CHECK_INT(a.state, PORTMAP_USELESS);
    }
}

TEST("failures are silence or a refusal")
{
    struct upnp_answer a;
    CHECK_INT(parse("udp failed NoRouter", &a), 0);
    CHECK_INT(a.state, PORTMAP_SILENT);
    CHECK_INT(parse("udp failed Refused", &a), 0);
    CHECK_INT(a.state, PORTMAP_REFUSED);
    CHECK_INT(a.external.len, 0);
    CHECK_INT(parse("udp removed", &a), -ENOENT);
}

TEST("anything else is nothing")
{
    static const char *const lines[] = {
        "",
        " ",
        "udp",
        "udp ",
        "udp mapped",
        "udp mapped ",
        "udp mapped 11.1.0.10",
        "udp mapped 11.1.0.10:0",
        "udp mapped 11.1.0.10:65536",
        "udp mapped *:80",
        "udp mapped 0.0.0.0:80",
        "udp mapped [2001:db8::1]:80",
        "udp mapped unix:/etc/passwd",
        "udp mapped 11.1.0.10:80 and more",
        "sctp mapped 11.1.0.10:80",
        "mapped 11.1.0.10:80",
        "udp removed twice",
        "udp mapped 11.1.0.10:00000000000000000000000000000000000000000000000000080"};
    struct upnp_answer a;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        CHECK_INT(parse(lines[i], &a), -EBADMSG);
    CHECK_INT(upnp_answer_parse((struct str){"udp mapped 11.1.0.10:80\0", 24}, &a), -EBADMSG);
}
