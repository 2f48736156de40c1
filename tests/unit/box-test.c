/* Boxes: who they are for can open them, and nobody else; they cannot be turned to another use. */
#include "keys/box.h"

#include "guard.h"
#include "test.h"

static struct identity home, laptop, other;

static void start(void)
{
    CHECK_INT(keys_init(), 0);
    identity_make(&home);
    identity_make(&laptop);
    identity_make(&other);
}

static struct str sealed(enum box_purpose purpose, uint8_t buf[64])
{
    int n = key_seal(&laptop, &home.key, purpose, STR("where I am"), buf);
    CHECK_INT(n, 10 + BOX_OVERHEAD);
    return (struct str){(const char *)buf, (size_t)n};
}

TEST("a box is opened by whom it is for")
{
    uint8_t buf[64], plain[64];
    start();
    struct str box = sealed(BOX_OFFER, buf);
    CHECK_INT(key_open(&home, &laptop.key, BOX_OFFER, box, plain), 10);
    CHECK_STR(((struct str){(char *)plain, 10}), "where I am");
}

TEST("a box is for one reader, one writer, one purpose and one direction")
{
    uint8_t buf[64], plain[64];
    start();
    struct str box = sealed(BOX_OFFER, buf);
    CHECK_INT(key_open(&other, &laptop.key, BOX_OFFER, box, plain), -EBADMSG);
    CHECK_INT(key_open(&home, &other.key, BOX_OFFER, box, plain), -EBADMSG);
    CHECK_INT(key_open(&home, &laptop.key, BOX_LAN_QUERY, box, plain), -EBADMSG);
    CHECK_INT(key_open(&laptop, &home.key, BOX_OFFER, box, plain), -EBADMSG);
}

TEST("a box that was changed or cut does not open")
{
    uint8_t buf[64], plain[64];
    start();
    struct str box = sealed(BOX_OFFER, buf);
    for (size_t i = 0; i < box.n; i++) {
        buf[i] ^= 1;
        CHECK_INT(key_open(&home, &laptop.key, BOX_OFFER, box, plain), -EBADMSG);
        buf[i] ^= 1;
        const char *at = guard_copy(buf, i);
        CHECK_INT(key_open(&home, &laptop.key, BOX_OFFER, (struct str){at, i}, plain), -EBADMSG);
        guard_free(at, i);
    }
    CHECK_INT(key_open(&home, &laptop.key, BOX_OFFER, box, plain), 10);
}

TEST("an empty box can be sealed, two boxes are never alike")
{
    uint8_t a[BOX_OVERHEAD], b[BOX_OVERHEAD], plain[1];
    start();
    CHECK_INT(key_seal(&laptop, &home.key, BOX_OFFER, STR(""), a), BOX_OVERHEAD);
    CHECK_INT(key_seal(&laptop, &home.key, BOX_OFFER, STR(""), b), BOX_OVERHEAD);
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK_INT(key_open(&home, &laptop.key, BOX_OFFER, (struct str){(char *)a, sizeof a}, plain), 0);
}

TEST("what is hidden is seen by its receiver only")
{
    uint8_t buf[64], plain[64];
    start();
    int n = key_hide(&home.key, STR("it is me"), buf);
    CHECK_INT(n, 8 + BOX_HIDDEN_OVERHEAD);
    struct str box = {(const char *)buf, (size_t)n};
    CHECK_INT(key_unhide(&other, box, plain), -EBADMSG);
    CHECK_INT(key_unhide(&home, box, plain), 8);
    CHECK_STR(((struct str){(char *)plain, 8}), "it is me");
    for (size_t i = 0; i < box.n; i++) {
        const char *at = guard_copy(buf, i);
        CHECK_INT(key_unhide(&home, (struct str){at, i}, plain), -EBADMSG);
        guard_free(at, i);
    }
}

TEST("nothing is sealed to a point that is no key")
{
    static const struct key zero, one = {.b = {1}};
    struct key none;
    uint8_t buf[64];
    start();
    memset(none.b, 0xff, sizeof none.b);
    CHECK_INT(key_seal(&laptop, &zero, BOX_OFFER, STR("x"), buf), -EINVAL);
    CHECK_INT(key_seal(&laptop, &one, BOX_OFFER, STR("x"), buf), -EINVAL);
    CHECK_INT(key_seal(&laptop, &none, BOX_OFFER, STR("x"), buf), -EINVAL);
}
