/* The file of known peers. */
#include "keys/known.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static char folder[] = "/tmp/berth-known-XXXXXX";
static char path[64];

__attribute__((constructor)) static void prepare(void)
{
    if (keys_init() < 0 || !mkdtemp(folder))
        abort();
    (void)snprintf(path, sizeof path, "%s/peers", folder);
}

__attribute__((destructor)) static void clean(void)
{
    const char *const left[] = {"peers", "peers.lock", ""};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s/%s", folder, left[i]);
        (void)remove(name);
    }
}

static void text_write(const char *text)
{
    FILE *f = fopen(path, "we");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

TEST("without a file nobody is known")
{
    struct known k;
    size_t line;
    CHECK_INT(known_open(path, false, &k, &line), 0);
    CHECK_INT(k.count, 0);
    CHECK(known_by_name(&k, "home") == NULL);
    known_done(&k);
}

TEST("what was added is there again, by name and by key")
{
    struct known k;
    size_t line;
    struct known_peer home = {.name = "home", .key = {{1}}, .since = 7, .sequence = 8};
    struct known_peer other = {.key = {{2}}, .since = 9, .sequence = UINT64_MAX};
    CHECK_INT(known_open(path, true, &k, &line), 0);
    CHECK_INT(known_add(&k, &home), 0);
    CHECK_INT(known_add(&k, &other), 0);
    CHECK_INT(known_save(&k), 0);
    known_done(&k);
    CHECK_INT(known_open(path, true, &k, &line), 0);
    CHECK_INT(k.count, 2);
    CHECK(key_equal(&known_by_name(&k, "home")->key, &home.key));
    CHECK_INT(known_find(&k, "", &other.key)->since, 9);
    CHECK(known_find(&k, "", &home.key) == known_by_name(&k, "home"));
    CHECK(known_sequence(&k, &other.key) == UINT64_MAX);
    CHECK_INT(known_sequence(&k, &home.key), 8);
    known_remove(&k, known_by_name(&k, "home"));
    CHECK_INT(known_save(&k), 0);
    known_done(&k);
    CHECK_INT(known_open(path, false, &k, &line), 0);
    CHECK_INT(k.count, 1);
    known_done(&k);
}

TEST("a line that makes no sense is named, not passed over")
{
    const char *const bad[] = {"home\n", "home abc 1 2\n", "# fine\n\nx y z\n"};
    const size_t lines[] = {1, 1, 3};
    for (size_t i = 0; i < 3; i++) {
        struct known k;
        size_t line = 0;
        text_write(bad[i]);
        CHECK_INT(known_open(path, false, &k, &line), -EBADMSG);
        CHECK_INT(line, lines[i]);
    }
}
