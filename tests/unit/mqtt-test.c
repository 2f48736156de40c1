/* MQTT CONNECT packets. */
#include "sniff-check.h"

#define V4   "\x10\x15\0\4MQTT\4\x82\0\x3c\0\2id\0\5alice"
#define V5   "\x10\x28\0\4MQTT\5\xc6\0\x3c\5\x11\0\0\0\1\0\2id\0\0\1t\0\3bye\0\3bob\0\6secret"
#define V31  "\x10\x10\0\6MQIsdp\3\2\0\x3c\0\2id"
#define LONG "\x10\x80\x80\1\0\4MQTT\4\xc0\0\0\0\0\0\2al"

TEST("a packet is judged as soon as its user name is there")
{
    CHECK_PREFIXES(mqtt_sniff, STR(V4));
    CHECK_PREFIXES(mqtt_sniff, STR(V31));
    CHECK_PREFIXES(mqtt_sniff, STR(LONG));
    CHECK_PREFIXES(mqtt_sniff, ((struct str){V5, STR(V5).n - 8}));
}

TEST("the user name is told, behind properties and a will, too")
{
    struct sniffed s;
    CHECK_VERDICT(mqtt_sniff(STR(V4), &s), SNIFF_DONE);
    CHECK_INT(s.proto, PROTO_MQTT);
    CHECK_STR(s.user, "alice");
    CHECK_VERDICT(mqtt_sniff(STR(V5), &s), SNIFF_DONE);
    CHECK_STR(s.user, "bob");
    CHECK_VERDICT(mqtt_sniff(STR(V31), &s), SNIFF_DONE);
    CHECK_STR(s.user, "");
}

TEST("a packet that ends too early or says nonsense is refused")
{
    CHECK_BAD(mqtt_sniff, "\x10\x14\0\4MQTT\4\x82\0\x3c\0\2id\0\5alice", "BadRequest");
    CHECK_BAD(mqtt_sniff, "\x10\x0c\0\4MQTT\4\3\0\x3c\0\0", "BadRequest");
    CHECK_BAD(mqtt_sniff, "\x10\x0c\0\4MQTT\6\2\0\x3c\0\0", "BadRequest");
    CHECK_BAD(mqtt_sniff, "\x10\x0d\0\4MQTT\5\2\0\x3c\5\0\0", "BadRequest");
    CHECK_BAD(mqtt_sniff, "\x10\x12\0\4MQTT\4\x82\0\x3c\0\0\0\2a\0xx", "BadRequest");
}

TEST("what is not MQTT is said to be so at once")
{
    CHECK_SNIFF(mqtt_sniff, "\x20", SNIFF_NOT);
    CHECK_SNIFF(mqtt_sniff, "\x11", SNIFF_NOT);
    CHECK_SNIFF(mqtt_sniff, "\x10\xff\xff\xff\xff", SNIFF_NOT);
    CHECK_SNIFF(mqtt_sniff, "\x10\x0c\1", SNIFF_NOT);
    CHECK_SNIFF(mqtt_sniff, "\x10\x0c\0\4MQTX", SNIFF_NOT);
    CHECK_SNIFF(mqtt_sniff, "\x10\0", SNIFF_NOT);
    CHECK_SNIFF(mqtt_sniff, "\x10\4\0\4MQ", SNIFF_NOT);
}
