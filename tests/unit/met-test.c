/* Where peers have answered: kept in a file, bounded, the latest first. */
#include "peerd/met.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "test.h"

static char folder[] = "/tmp/berth-met-XXXXXX";
static char path[64];

__attribute__((constructor)) static void prepare(void)
{
    if (!mkdtemp(folder))
        abort();
    (void)snprintf(path, sizeof path, "%s/met", folder);
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

static struct key key(uint8_t first, uint8_t second)
{
    return (struct key){.b = {first, second}};
}

TEST("the latest address comes first, the oldest goes, and a file keeps them")
{
    static const char *const texts[] = {"192.0.2.1:1", "192.0.2.2:2",     "192.0.2.3:3",
                                        "192.0.2.4:4", "[2001:db8::5]:5", "192.0.2.3:3"};
    struct met m, again;
    char text[ADDR_TEXT_MAX];
    struct stat st;
    struct key k = key(1, 2);
    CHECK_INT(met_load(&m, path), 0);
    CHECK(met_find(&m, &k) == NULL);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct addr a = addr(texts[i]);
        CHECK(met_note(&m, &k, &a, 1000 + i));
    }
    CHECK_INT(met_save(&m), 0);
    CHECK_INT(met_load(&again, path), 0);
    const struct met_peer *p = met_find(&again, &k);
    CHECK(p != NULL && p->count == MET_ADDRS_MAX);
    CHECK_TEXT(addr_format(&p->addrs[0], text), "192.0.2.3:3");
    CHECK_TEXT(addr_format(&p->addrs[1], text), "[2001:db8::5]:5");
    CHECK_TEXT(addr_format(&p->addrs[2], text), "192.0.2.4:4");
    CHECK_TEXT(addr_format(&p->addrs[3], text), "192.0.2.2:2");
    CHECK_INT(p->seen_s, 1005);
    CHECK_INT(stat(path, &st), 0);
    CHECK_INT(st.st_mode & 0777, 0600);
    met_done(&m);
    met_done(&again);
}

TEST("what is known already is not worth writing, what leads nowhere is not kept")
{
    struct met m;
    struct key k = key(3, 4);
    struct addr a = addr("192.0.2.1:1"), none = {.len = 0}, local = addr("[fe80::1]:5");
    CHECK_INT(met_load(&m, path), 0);
    CHECK(met_note(&m, &k, &a, 1000));
    CHECK(!met_note(&m, &k, &a, 1010));
    CHECK(met_note(&m, &k, &a, 9000));
    CHECK(!met_note(&m, &k, &none, 9000));
    CHECK(!met_note(&m, &k, &local, 9000));
    CHECK_INT(met_find(&m, &k)->count, 1);
    met_done(&m);
}

TEST("who was not met for longest makes room")
{
    struct met m;
    struct addr a = addr("192.0.2.1:1");
    (void)unlink(path);
    CHECK_INT(met_load(&m, path), 0);
    for (unsigned i = 0; i < MET_MAX + 10; i++) {
        struct key k = key((uint8_t)i, (uint8_t)(i >> 8));
        CHECK(met_note(&m, &k, &a, 5000 + i));
    }
    struct key first = key(0, 0), eleventh = key(10, 0);
    CHECK_INT(m.count, MET_MAX);
    CHECK(met_find(&m, &first) == NULL);
    CHECK(met_find(&m, &eleventh) != NULL);
    met_done(&m);
}

TEST("lines that make no sense are passed over")
{
    char text[KEY_TEXT_MAX];
    struct key k = key(9, 9);
    struct met m;
    FILE *f = fopen(path, "we");
    CHECK(f != NULL);
    (void)fprintf(f, "rubbish\n%s\n%s x 192.0.2.1:1\n%s 5\n%s 5 nowhere\n\n%s 5 192.0.2.1:1 x\n",
                  key_format(&k, text), text, text, text, text);
    (void)fclose(f);
    CHECK_INT(met_load(&m, path), 0);
    CHECK_INT(m.count, 1);
    CHECK_INT(met_find(&m, &k)->count, 1);
    met_done(&m);
}
