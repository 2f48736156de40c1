#include "base/rd.h"
#include "base/wr.h"
#include "test.h"

TEST("integers are read in the order of the wire")
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    struct rd r = rd_init(bytes, sizeof bytes);
    CHECK_INT(rd_u8(&r), 0x01);
    CHECK_INT(rd_u16(&r), 0x0203);
    CHECK_INT(rd_u24(&r), 0x040506);
    CHECK_INT(rd_u32(&r), 0x0708090a);
    CHECK(rd_ok(&r));
    CHECK_INT(r.left, 0);
    r = rd_init(bytes, sizeof bytes);
    CHECK_INT(rd_u64(&r), 0x0102030405060708);
    r = rd_init(bytes, sizeof bytes);
    CHECK_INT(rd_le(&r, 4), 0x04030201);
}

TEST("the first read past the end fails for good and every further one answers zero")
{
    static const uint8_t bytes[] = {9, 9, 9};
    struct rd r = rd_init(bytes, sizeof bytes);
    CHECK_INT(rd_u32(&r), 0);
    CHECK(!rd_ok(&r));
    CHECK_INT(rd_u8(&r), 0);
    CHECK_INT(rd_bytes(&r, 1).n, 0);
    CHECK_INT(rd_bytes(&r, 0).n, 0);
    CHECK(!rd_ok(&r));
}

TEST("no length however large reads past the end")
{
    static const uint8_t bytes[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'x'};
    for (size_t width = 1; width <= 8; width++) {
        struct rd r = rd_init(bytes, sizeof bytes);
        struct str s = rd_vec(&r, width);
        CHECK_INT(s.n, 0);
        CHECK(s.p != NULL);
        CHECK(!rd_ok(&r));
    }
    struct rd r = rd_init(bytes, sizeof bytes);
    CHECK_INT(rd_bytes(&r, SIZE_MAX).n, 0);
    CHECK(!rd_ok(&r));
}

TEST("a slice behind its length is exactly that slice, also when it is empty")
{
    static const uint8_t bytes[] = {0, 2, 'o', 'k', 0, 0, 7};
    struct rd r = rd_init(bytes, sizeof bytes);
    struct str first = rd_vec(&r, 2), second = rd_vec(&r, 2);
    CHECK_STR(first, "ok");
    CHECK_STR(second, "");
    CHECK_INT(rd_u8(&r), 7);
    CHECK(rd_ok(&r));
}

TEST("an empty input is no error until something is read")
{
    struct rd r = rd_init(NULL, 0);
    CHECK(rd_ok(&r));
    CHECK_INT(rd_bytes(&r, 0).n, 0);
    CHECK(rd_ok(&r));
    CHECK_INT(rd_u8(&r), 0);
    CHECK(!rd_ok(&r));
}

TEST("what was written is read back")
{
    uint8_t buf[64];
    struct wr w = wr_init(buf, sizeof buf);
    wr_u8(&w, 0xfe);
    wr_u16(&w, 0xfedc);
    wr_u32(&w, 0xfedcba98);
    wr_u64(&w, 0xfedcba9876543210);
    wr_vec16(&w, STR("text"));
    wr_be(&w, 0x010203, 3);
    CHECK(wr_ok(&w));
    struct rd r = rd_init(buf, w.used);
    CHECK_INT(rd_u8(&r), 0xfe);
    CHECK_INT(rd_u16(&r), 0xfedc);
    CHECK_INT(rd_u32(&r), 0xfedcba98);
    CHECK(rd_u64(&r) == 0xfedcba9876543210);
    struct str text = rd_vec(&r, 2);
    CHECK_STR(text, "text");
    CHECK_INT(rd_u24(&r), 0x010203);
    CHECK(rd_ok(&r));
    CHECK_INT(r.left, 0);
}

TEST("what does not fit is not written at all, and nothing after it")
{
    uint8_t buf[4] = {7, 7, 7, 7};
    struct wr w = wr_init(buf, 3);
    wr_u16(&w, 0x0102);
    wr_u16(&w, 0x0304);
    CHECK(!wr_ok(&w));
    wr_u8(&w, 5);
    CHECK(!wr_ok(&w));
    CHECK_INT(w.used, 2);
    CHECK_INT(buf[2], 7);
    CHECK_INT(buf[3], 7);
}

TEST("bytes fill the buffer to its last one")
{
    uint8_t buf[3];
    struct wr w = wr_init(buf, sizeof buf);
    wr_bytes(&w, "abc", 3);
    wr_bytes(&w, NULL, 0);
    CHECK(wr_ok(&w));
    wr_bytes(&w, "d", 1);
    CHECK(!wr_ok(&w));
}

TEST("a slice too long for its length field is an error, not a shorter slice")
{
    static uint8_t buf[70000];
    static const char text[65536];
    struct wr w = wr_init(buf, sizeof buf);
    wr_vec16(&w, (struct str){text, sizeof text});
    CHECK(!wr_ok(&w));
    CHECK_INT(w.used, 0);
    w = wr_init(buf, sizeof buf);
    wr_vec16(&w, (struct str){text, sizeof text - 1});
    CHECK(wr_ok(&w));
    CHECK_INT(w.used, 65537);
}
