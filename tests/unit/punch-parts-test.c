/* The parts of src/punch that are no machine: candidates, classification, guessing. */
#include "../sim/net.h"
#include "punch/guess.h"
#include "test.h"

static struct addr address(const char *text)
{
    struct addr a = {.len = 0};
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

TEST("a host comes before a reflexive candidate, and IPv6 before IPv4")
{
    struct addr v4 = address("11.0.0.1:5"), v6 = address("[2a00::1]:5");
    CHECK(candidate_priority(CANDIDATE_HOST, &v4, 0) >
          candidate_priority(CANDIDATE_REFLEXIVE, &v6, 0));
    CHECK(candidate_priority(CANDIDATE_HOST, &v6, 0) > candidate_priority(CANDIDATE_HOST, &v4, 0));
    CHECK(candidate_priority(CANDIDATE_HOST, &v4, 0) > candidate_priority(CANDIDATE_HOST, &v4, 1));
    CHECK_INT(candidate_priority(CANDIDATE_HOST, &v6, 0),
              2130706431); /* as in RFC 8445's examples */
    CHECK_INT(candidate_pair_priority(3, 2), (2ll << 32) + 7);
    CHECK_INT(candidate_pair_priority(2, 3), (2ll << 32) + 6);
}

TEST("a list takes no address twice, none that is useless, and keeps the best sixteen")
{
    struct candidates list = {.count = 0};
    static const char *const useless[] = {
        "127.0.0.1:5", "0.0.0.0:5", "224.0.0.1:5", "255.255.255.255:5", "169.254.1.1:5",
        "11.0.0.1:0",  "[::1]:5",   "[fe80::1]:5", "[ff02::1]:5",       "[::]:5"};
    for (size_t i = 0; i < sizeof useless / sizeof *useless; i++) {
        struct addr a = address(useless[i]);
        CHECK(!candidates_add(&list, CANDIDATE_HOST, CANDIDATE_UDP, &a));
    }
    struct addr a = address("11.0.0.1:1");
    CHECK(candidates_add(&list, CANDIDATE_REFLEXIVE, CANDIDATE_UDP, &a));
    CHECK(!candidates_add(&list, CANDIDATE_HOST, CANDIDATE_UDP, &a));
    CHECK(candidates_add(&list, CANDIDATE_HOST, CANDIDATE_TCP, &a));
    for (uint16_t port = 2; port <= 16; port++) {
        addr_set_port(&a, port);
        CHECK(candidates_add(&list, CANDIDATE_HOST, CANDIDATE_UDP, &a));
    }
    CHECK_INT(list.count, CANDIDATES_MAX);
    for (size_t i = 0; i < list.count; i++)
        CHECK_INT(list.at[i].kind, CANDIDATE_HOST); /* the reflexive one made room */
    addr_set_port(&a, 99);
    CHECK(!candidates_add(&list, CANDIDATE_REFLEXIVE, CANDIDATE_UDP, &a));
}

TEST("an address behind a second NAT is not taken for a public one")
{
    static const char *const inner[] = {"10.1.2.3:5", "172.31.0.1:5", "192.168.1.1:5",
                                        "100.64.0.1:5", "[fd00::1]:5"};
    for (size_t i = 0; i < 5; i++) {
        struct addr a = address(inner[i]);
        CHECK(candidate_is_usable(&a) && !candidate_is_public(&a));
    }
    struct addr a = address("100.128.0.1:5");
    CHECK(candidate_is_public(&a));
}

TEST("each kind of NAT is told from what servers see")
{
    static const char *const kinds[] = {
        "none/eif/keep",     "eim/eif/random",   "eim/adf/keep",         "eim/apdf/random",
        "adm/adf/random",    "apdm/apdf/random", "apdm/apdf/sequence+1", "apdm/apdf/sequence-2",
        "eim/apdf/block512", "apdm/eif/block512"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char text[NAT_TEXT_MAX];
        struct sim *s = sim_new(kinds[i], "none/eif/keep", 40 + i);
        struct nat nat = sim_classify(s, &s->a);
        CHECK_TEXT(nat_format(&nat, text), kinds[i]);
        sim_free(s);
    }
}

TEST("no answers at all mean that UDP is blocked, and too few say nothing of ports")
{
    char text[NAT_TEXT_MAX];
    struct nat nat = nat_classify(NULL, 0, (struct nat_filter_test){0});
    CHECK_TEXT(nat_format(&nat, text), "blocked/unknown/unknown");
    struct nat_sample one = {0, address("10.0.0.2:7"), address("11.0.0.1:1"),
                             address("11.0.0.9:8")};
    nat = nat_classify(&one, 1, (struct nat_filter_test){0});
    CHECK_TEXT(nat_format(&nat, text), "unknown/unknown/unknown");
    one.mapped = one.local;
    nat = nat_classify(&one, 1, (struct nat_filter_test){0});
    CHECK_TEXT(nat_format(&nat, text), "none/unknown/unknown");
}

TEST("a sequence is seen although others use the NAT, too")
{
    char text[NAT_TEXT_MAX];
    struct nat_sample samples[5];
    static const uint16_t ports[] = {20000, 20002, 20006, 20008, 20010};
    for (unsigned i = 0; i < 5; i++) {
        samples[i] = (struct nat_sample){i, address("10.0.0.2:7"), address("11.0.0.1:1"),
                                         address("11.0.0.9:8")};
        addr_set_port(&samples[i].mapped, ports[i]);
    }
    struct nat nat = nat_classify(samples, 5, (struct nat_filter_test){0});
    CHECK_TEXT(nat_format(&nat, text), "unknown/unknown/sequence+2");
}

/* What eight sockets are taken for whose ports are these, in the order of the requests. */
static const char *word_of_ports(const uint16_t ports[8], char text[NAT_TEXT_MAX])
{
    struct nat_sample samples[8];
    for (unsigned i = 0; i < 8; i++) {
        samples[i] = (struct nat_sample){i + 1, address("10.0.0.2:7"), address("11.0.0.1:1"),
                                         address("11.0.0.9:8")};
        addr_set_port(&samples[i].mapped, ports[i]);
    }
    struct nat nat = nat_classify(samples, 8, (struct nat_filter_test){0});
    return nat_format(&nat, text);
}

TEST("a sequence is seen although some answers were lost and asked for again")
{
    char text[NAT_TEXT_MAX];
    static const uint16_t again[8] = {20000, 20001, 20003, 20004, 20006, 20007, 20002, 20005};
    static const uint16_t twice[8] = {20014, 20012, 20008, 20006, 20002, 20010, 20000, 20004};
    static const uint16_t random[8] = {20000, 20005, 20002, 20006, 20001, 20007, 20003, 20004};
    static const uint16_t wide[8] = {20480, 20520, 20521, 20560, 20540, 20590, 20640, 20700};
    CHECK_TEXT(word_of_ports(again, text), "unknown/unknown/sequence+1");
    CHECK_TEXT(word_of_ports(twice, text), "unknown/unknown/sequence-2");
    CHECK_TEXT(word_of_ports(random, text), "unknown/unknown/block64");
    CHECK_TEXT(word_of_ports(wide, text), "unknown/unknown/block256");
}

TEST("numbers from the wire that mean nothing become what is known least")
{
    struct addr seen = address("11.0.0.9:20700");
    struct nat nat = nat_from_wire(200, 200, -5, &seen);
    CHECK_INT(nat.mapping, NAT_MAPPING_UNKNOWN);
    CHECK_INT(nat.allocation, NAT_ALLOCATION_UNKNOWN);
    nat = nat_from_wire(NAT_MAPPING_APDM, NAT_ALLOCATION_SEQUENCE, -30000, &seen);
    CHECK_INT(nat.allocation, NAT_ALLOCATION_RANDOM);
    nat = nat_from_wire(NAT_MAPPING_APDM, NAT_ALLOCATION_BLOCK, -1, &seen);
    CHECK_INT(nat.allocation, NAT_ALLOCATION_RANDOM);
    nat = nat_from_wire(NAT_MAPPING_APDM, NAT_ALLOCATION_BLOCK, 512, &seen);
    CHECK_INT(nat.block_first, 20480);
    nat = nat_from_wire(NAT_MAPPING_APDM, NAT_ALLOCATION_BLOCK, 1000, &seen);
    CHECK_INT(nat.block_first, 19700);
    CHECK_INT(nat.delta, 2000);
}

TEST("a guess visits every port of its range once, and never more than 500 in a second")
{
    static bool seen[65536];
    struct nat peer = {NAT_MAPPING_APDM, NAT_FILTERING_APDF, NAT_ALLOCATION_RANDOM, 0, 0};
    struct guess g;
    uint64_t at_us[GUESS_PROBES_MAX];
    unsigned count = 0;
    guess_init(&g, &peer, 0x123456789abcdef, 5000000);
    while (guess_due_us(&g) != UINT64_MAX) {
        at_us[count] = guess_due_us(&g) + (count % 7 == 0 ? 3000 : 0); /* sometimes late */
        uint16_t port = guess_next(&g, at_us[count]);
        CHECK(port >= 1024 && !seen[port]);
        seen[port] = true;
        if (count >= GUESS_PROBES_SECOND)
            CHECK(at_us[count] - at_us[count - GUESS_PROBES_SECOND] >= 1000000);
        count++;
    }
    CHECK_INT(count, GUESS_PROBES_MAX);
}

TEST("ports are guessed over TCP where one side has no UDP and the other has random ports")
{
    const struct nat blocked = {.mapping = NAT_MAPPING_BLOCKED};
    const struct nat random = {.mapping = NAT_MAPPING_ADM, .allocation = NAT_ALLOCATION_RANDOM};
    const struct nat counting = {.mapping = NAT_MAPPING_APDM,
                                 .allocation = NAT_ALLOCATION_SEQUENCE};
    const struct nat easy = {.mapping = NAT_MAPPING_EIM, .allocation = NAT_ALLOCATION_RANDOM};
    CHECK_INT(guess_tcp_plan(&blocked, &random), GUESS_PROBE);
    CHECK_INT(guess_tcp_plan(&random, &blocked), GUESS_SOCKETS);
    CHECK_INT(guess_tcp_plan(&blocked, &counting), GUESS_NOTHING);
    CHECK_INT(guess_tcp_plan(&easy, &blocked), GUESS_NOTHING);
    CHECK_INT(guess_tcp_plan(&blocked, &blocked), GUESS_NOTHING);
    CHECK_INT(guess_tcp_plan(&easy, &random), GUESS_NOTHING);
}

TEST("a guess in a block stays in it")
{
    struct nat peer = {NAT_MAPPING_APDM, NAT_FILTERING_APDF, NAT_ALLOCATION_BLOCK, 512, 65024};
    struct guess g;
    guess_init(&g, &peer, 77, 0);
    unsigned count = 0;
    while (guess_due_us(&g) != UINT64_MAX) {
        CHECK(guess_next(&g, guess_due_us(&g)) >= 65024);
        count++;
    }
    CHECK_INT(count, 512);
}

TEST("one guess at a time for each address")
{
    struct guess_book book = {.count = 0};
    struct addr a = address("11.0.0.1:1"), b = address("11.0.0.1:2"), c = address("11.0.0.2:1");
    CHECK(guess_book_enter(&book, &a));
    CHECK(!guess_book_enter(&book, &b));
    CHECK(guess_book_enter(&book, &c));
    guess_book_leave(&book, &b);
    CHECK(guess_book_enter(&book, &b));
}
