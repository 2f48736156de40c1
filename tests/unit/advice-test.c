/* What is said about NATs, and what would help, for each combination of what is known. */
#include "peerd/advice.h"

#include <stdio.h>

#include "test.h"

#define SYMMETRIC                                                                                  \
    {                                                                                              \
        NAT_MAPPING_APDM, NAT_FILTERING_APDF, NAT_ALLOCATION_RANDOM, 0, 0                          \
    }
#define CONE                                                                                       \
    {                                                                                              \
        NAT_MAPPING_EIM, NAT_FILTERING_APDF, NAT_ALLOCATION_KEEP, 0, 0                             \
    }
#define BLOCKED                                                                                    \
    {                                                                                              \
        .mapping = NAT_MAPPING_BLOCKED                                                             \
    }

/* The words in their order, with a space between them. */
static const char *words_of(const struct advice_facts *f, char buf[400])
{
    struct advice a[ADVICE_MAX];
    size_t n = advice_give(f, a), at = 0;
    buf[0] = 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(buf + at, 400 - at, "%s%s", i ? " " : "", a[i].word);
    return buf;
}

static const char *text_of(const struct advice_facts *f, const char *word, char buf[ADVICE_TEXT])
{
    struct advice a[ADVICE_MAX];
    size_t n = advice_give(f, a);
    for (size_t i = 0; i < n; i++)
        if (strcmp(a[i].word, word) == 0)
            return strcpy(buf, a[i].text);
    return "";
}

TEST("a NAT is described in words")
{
    static const struct {
        struct nat nat;
        const char *words;
    } cases[] = {
        {{.mapping = NAT_MAPPING_UNKNOWN}, "not known"},
        {{.mapping = NAT_MAPPING_NONE}, "no NAT"},
        {{.mapping = NAT_MAPPING_NONE, .filtering = NAT_FILTERING_APDF},
         "no NAT; lets in only who was written to"},
        {BLOCKED, "no UDP passes"},
        {CONE, "one port for everybody, the same as inside where it is free; lets in only who was "
               "written to"},
        {{NAT_MAPPING_EIM, NAT_FILTERING_EIF, NAT_ALLOCATION_BLOCK, 512, 0},
         "one port for everybody, at random in a block of 512; lets everybody in"},
        {{NAT_MAPPING_ADM, NAT_FILTERING_ADF, NAT_ALLOCATION_SEQUENCE, 2, 0},
         "another port for each address, one after the other (+2); lets in addresses that were "
         "written to (symmetric)"},
        {SYMMETRIC, "another port for each address and port, at random; lets in only who was "
                    "written to (symmetric)"},
    };
    char buf[NAT_WORDS_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_TEXT(nat_describe(&cases[i].nat, buf), cases[i].words);
}

TEST("what would help follows from the way, the NATs, the reason and the router")
{
    static const struct {
        struct advice_facts facts;
        const char *words;
    } cases[] = {
        /* Nothing, where there is nothing to better. */
        {{.with_peer = true,
          .way = ADVICE_DIRECT,
          .over = true,
          .own = SYMMETRIC,
          .peer = SYMMETRIC,
          .map = ADVICE_MAP_SILENT},
         ""},
        {{.with_peer = true, .way = ADVICE_NOT_YET, .over = true, .own = CONE, .peer = CONE}, ""},
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .own = CONE,
          .peer = CONE,
          .map = ADVICE_MAP_SILENT},
         ""}, /* the checks have not ended */
        /* Two symmetric NATs, and each state of the mapping. */
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .own = SYMMETRIC,
          .peer = SYMMETRIC,
          .reason = PUNCH_BOTH_SYMMETRIC,
          .map = ADVICE_MAP_SILENT},
         "BothSymmetric EnablePortMapping EnablePortMappingThere UseIpv6"},
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .own = SYMMETRIC,
          .peer = SYMMETRIC,
          .reason = PUNCH_BOTH_SYMMETRIC,
          .map = ADVICE_MAP_REFUSED},
         "BothSymmetric AllowPortMapping EnablePortMappingThere UseIpv6"},
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .own = SYMMETRIC,
          .peer = SYMMETRIC,
          .reason = PUNCH_BOTH_SYMMETRIC,
          .map = ADVICE_MAP_USELESS},
         "CarrierSymmetric CarrierNat EnablePortMappingThere UseIpv6"},
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .own = SYMMETRIC,
          .peer = SYMMETRIC,
          .reason = PUNCH_BOTH_SYMMETRIC,
          .map = ADVICE_MAP_OFF},
         "BothSymmetric AskTheRouter EnablePortMappingThere UseIpv6"},
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .own = SYMMETRIC,
          .peer = SYMMETRIC,
          .reason = PUNCH_BOTH_SYMMETRIC,
          .map = ADVICE_MAP_NO_GATEWAY},
         "BothSymmetric NoGateway EnablePortMappingThere UseIpv6"},
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .own = SYMMETRIC,
          .peer = SYMMETRIC,
          .reason = PUNCH_NO_ANSWER,
          .map = ADVICE_MAP_MAPPED},
         "MappedPortIsClosed EnablePortMappingThere OpenPort UseIpv6"},
        /* A server that cannot tell. */
        {{.own = {.allocation = NAT_ALLOCATION_RANDOM}}, ""}, /* is being asked */
        {{.asked = true, .own = {.allocation = NAT_ALLOCATION_RANDOM}}, "SecondAddress"},
        {{.asked = true, .own = CONE}, ""},
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .asked = true,
          .reason = PUNCH_NO_ANSWER},
         "SecondAddress OpenPort UseIpv6"},
        /* Guessing. */
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .no_guessing = true,
          .own = SYMMETRIC,
          .peer = CONE,
          .reason = PUNCH_NO_ANSWER},
         "AllowGuessing UseIpv6"},
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .own = CONE,
          .peer = SYMMETRIC,
          .reason = PUNCH_GUESSED_OUT,
          .map = ADVICE_MAP_SILENT,
          .own_v6 = true},
         "EnablePortMapping EnablePortMappingThere TryAgain UseIpv6"},
        /* Firewalls. */
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .own = CONE,
          .peer = CONE,
          .reason = PUNCH_ONE_WAY,
          .map = ADVICE_MAP_SILENT},
         "EnablePortMapping FirewallThere UseIpv6"},
        {{.with_peer = true,
          .way = ADVICE_RELAY,
          .over = true,
          .own = {.mapping = NAT_MAPPING_NONE},
          .peer = CONE,
          .reason = PUNCH_NO_ANSWER,
          .own_v6 = true,
          .peer_v6 = true},
         "OpenPort AllowIpv6"},
        /* No UDP. */
        {{.with_peer = true,
          .way = ADVICE_TCP,
          .over = true,
          .own = BLOCKED,
          .peer = CONE,
          .reason = PUNCH_UDP_BLOCKED,
          .udp_blocked = true,
          .map = ADVICE_MAP_SILENT},
         "AllowUdpHere EnablePortMapping"},
        {{.with_peer = true,
          .way = ADVICE_TCP,
          .over = true,
          .own = CONE,
          .peer = BLOCKED,
          .reason = PUNCH_UDP_BLOCKED,
          .map = ADVICE_MAP_MAPPED},
         "AllowUdpThere"},
        /* Our own side alone. */
        {{.own = SYMMETRIC, .map = ADVICE_MAP_SILENT}, "EnablePortMapping"},
        {{.own = SYMMETRIC, .map = ADVICE_MAP_USELESS}, "CarrierNat"},
        {{.own = SYMMETRIC, .map = ADVICE_MAP_MAPPED}, ""},
        {{.own = CONE, .map = ADVICE_MAP_SILENT}, ""},
        {{.own = BLOCKED, .udp_blocked = true}, "AllowUdpHere"},
        {{.own = {.mapping = NAT_MAPPING_NONE}}, ""},
    };
    char buf[400];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_TEXT(words_of(&cases[i].facts, buf), cases[i].words);
}

TEST("the sentences name the router, the port and the address")
{
    struct advice_facts f = {.own = SYMMETRIC,
                             .map = ADVICE_MAP_SILENT,
                             .port = 4711,
                             .gateway = "192.168.1.1",
                             .external = "100.64.0.9:4711"};
    char buf[ADVICE_TEXT];
    CHECK_TEXT(text_of(&f, "EnablePortMapping", buf),
               "enable NAT-PMP, PCP or UPnP on 192.168.1.1: a port that the router maps can be "
               "reached from everywhere");
    f.map = ADVICE_MAP_USELESS;
    CHECK_TEXT(text_of(&f, "CarrierNat", buf),
               "192.168.1.1 maps ports, but is itself behind a NAT (it maps to 100.64.0.9:4711): "
               "ask the carrier for a public address, or for IPv6");
    f.udp_blocked = true;
    CHECK_TEXT(text_of(&f, "AllowUdpHere", buf),
               "UDP does not pass here: allow UDP to and from port 4711 of this machine");
    f.map = ADVICE_MAP_SILENT;
    f.gateway = "";
    CHECK_TEXT(text_of(&f, "EnablePortMapping", buf),
               "enable NAT-PMP, PCP or UPnP on the router: a port that the router maps can be "
               "reached from everywhere");
}
