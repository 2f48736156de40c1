/* Packet filter rules that send a port elsewhere, and lists of ports. */
#include "test.h"

#include "why/parts.h"

static struct why_report report;

static void parse_nft(uint16_t port, const char *text)
{
    report = (struct why_report){.target.port = port};
    json_t *json = json_loads(text, 0, NULL);
    CHECK(json != NULL);
    redirect_parse_nft(&report, json);
    json_decref(json);
}

#define RULE(match, action)                                                                        \
    "{\"nftables\":[{\"metainfo\":{}},{\"rule\":{\"family\":\"ip\",\"table\":\"nat\",\"chain\":"   \
    "\"pre\",\"expr\":[{\"match\":{\"op\":\"" match "}},{\"counter\":null}," action "]}}]}"
#define DPORT "\",\"left\":{\"payload\":{\"protocol\":\"tcp\",\"field\":\"dport\"}},\"right\":"

TEST("an nftables redirect of the port is found and said where to")
{
    parse_nft(80, RULE("==" DPORT "80", "{\"redirect\":{\"port\":8080}}"));
    CHECK_INT(report.redirs_count, 1);
    CHECK_TEXT(report.redirs[0].what, "to port 8080 (chain ip nat pre)");
}

TEST("sets and ranges of ports are searched, dnat names the address")
{
    const char *rule = RULE("==" DPORT "{\"set\":[81,{\"range\":[90,99]}]}",
                            "{\"dnat\":{\"addr\":\"10.0.0.5\",\"port\":80}}");
    parse_nft(95, rule);
    CHECK_TEXT(report.redirs[0].what, "to port 80 of 10.0.0.5 (chain ip nat pre)");
    parse_nft(82, rule);
    CHECK_INT(report.redirs_count, 0);
}

TEST("a rule for other ports, or that only filters, is no redirect")
{
    parse_nft(443, RULE("==" DPORT "80", "{\"redirect\":{\"port\":8080}}"));
    CHECK_INT(report.redirs_count, 0);
    parse_nft(80, RULE("==" DPORT "80", "{\"accept\":null}"));
    CHECK_INT(report.redirs_count, 0);
    parse_nft(80, RULE("!=" DPORT "80", "{\"redirect\":{\"port\":8080}}"));
    CHECK_INT(report.redirs_count, 0);
    parse_nft(80, "{\"nftables\":[{\"rule\":{}},{\"rule\":null},1,[]]}");
    CHECK_INT(report.redirs_count, 0);
    parse_nft(80, "[]");
    CHECK_INT(report.redirs_count, 0);
}

static const char iptables[] =
    "# Generated\n*nat\n:PREROUTING ACCEPT [0:0]\n"
    "-A PREROUTING -p tcp -m tcp --dport 443 -j REDIRECT --to-ports 8443\n"
    "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n"
    "-A DOCKER -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.2:53\n"
    "-A INPUT -p tcp -m multiport --dports 22,8000:8010 -j ACCEPT\n"
    "-A X -p tcp -m multiport --dports 25,9000:9010 -j DNAT --to-destination 10.0.0.1\n"
    "COMMIT\n-A";

TEST("iptables redirects and destinations are found")
{
    static const struct {
        uint16_t port;
        const char *what;
    } cases[] = {
        {443, "to port 8443 (chain PREROUTING)"},
        {8080, "to 172.17.0.2:80 (chain DOCKER)"},
        {9005, "to 10.0.0.1 (chain X)"},
        {53, NULL},
        {22, NULL},
        {44, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        report = (struct why_report){.target.port = cases[i].port};
        redirect_parse_iptables(&report, iptables);
        CHECK_INT(report.redirs_count, cases[i].what ? 1 : 0);
        if (cases[i].what)
            CHECK_TEXT(report.redirs[0].what, cases[i].what);
    }
}

TEST("a list of ports and ranges is searched")
{
    CHECK(rules_list_has("80,8000-8010\n", 80));
    CHECK(rules_list_has("80,8000-8010\n", 8005));
    CHECK(!rules_list_has("80,8000-8010\n", 8011));
    CHECK(!rules_list_has("\n", 80));
    CHECK(!rules_list_has("80-\n", 81));
    CHECK(!rules_list_has("x", 80));
}
