/* Identities: their text, their file, and what they sign. */
#include "keys/keys.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "test.h"

static char folder[] = "/tmp/berth-keys-XXXXXX";
static char path[64];

__attribute__((constructor)) static void prepare(void)
{
    if (keys_init() < 0 || !mkdtemp(folder))
        abort();
    (void)snprintf(path, sizeof path, "%s/a/b/key", folder);
}

__attribute__((destructor)) static void clean(void)
{
    const char *const left[] = {"a/b/key", "a/b", "a", ""};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s/%s", folder, left[i]);
        (void)remove(name);
    }
}

TEST("a key's text gives the key back, in either case")
{
    struct identity id;
    struct key back;
    char text[KEY_TEXT_MAX];
    identity_make(&id);
    CHECK_INT(strlen(key_format(&id.key, text)), KEY_TEXT);
    CHECK_INT(key_parse(str_of(text), &back), 0);
    CHECK(key_equal(&id.key, &back));
    for (char *c = text; *c; c++)
        *c = *c >= 'a' ? (char)(*c - 32) : *c;
    CHECK_INT(key_parse(str_of(text), &back), 0);
    CHECK(key_equal(&id.key, &back));
}

TEST("the text of a key is what it has always been")
{
    struct key key = {{1, 2, 3}};
    char text[KEY_TEXT_MAX];
    CHECK_TEXT(key_format(&key, text), "aebagaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaouk3z");
}

TEST("one wrong letter anywhere is noticed")
{
    struct key key = {{7}}, back;
    char text[KEY_TEXT_MAX];
    (void)key_format(&key, text);
    for (size_t i = 0; i < KEY_TEXT; i++) {
        char old = text[i];
        text[i] = old == 'a' ? 'b' : 'a';
        CHECK_INT(key_parse(str_of(text), &back), -EBADMSG);
        text[i] = old;
    }
    CHECK_INT(key_parse(STR("home"), &back), -EINVAL);
    CHECK_INT(key_parse((struct str){text, KEY_TEXT - 1}, &back), -EINVAL);
    text[5] = '1';
    CHECK_INT(key_parse(str_of(text), &back), -EINVAL);
}

TEST("a signature is good for its message, key and purpose only")
{
    struct identity id, other;
    uint8_t signature[KEY_SIGNATURE_BYTES];
    identity_make(&id);
    identity_make(&other);
    CHECK_INT(key_sign(&id, KEY_RECORD, STR("hello"), signature), 0);
    CHECK(key_verify(&id.key, KEY_RECORD, STR("hello"), signature));
    CHECK(!key_verify(&id.key, KEY_LOGIN, STR("hello"), signature));
    CHECK(!key_verify(&id.key, KEY_RECORD, STR("hellp"), signature));
    CHECK(!key_verify(&other.key, KEY_RECORD, STR("hello"), signature));
    signature[3] ^= 1;
    CHECK(!key_verify(&id.key, KEY_RECORD, STR("hello"), signature));
}

TEST("a message that is too long is not signed")
{
    static char big[KEY_MESSAGE_MAX + 1];
    struct identity id;
    uint8_t signature[KEY_SIGNATURE_BYTES] = {0};
    identity_make(&id);
    CHECK_INT(key_sign(&id, KEY_RECORD, (struct str){big, sizeof big}, signature), -EMSGSIZE);
    CHECK(!key_verify(&id.key, KEY_RECORD, (struct str){big, sizeof big}, signature));
}

TEST("an identity is kept in a file of its user's own and never overwritten")
{
    struct identity id, back;
    char trouble[256];
    struct stat st;
    identity_make(&id);
    CHECK_INT(identity_load(path, &back, trouble, sizeof trouble), -ENOENT);
    CHECK_INT(identity_save(path, &id), 0);
    CHECK_INT(stat(path, &st), 0);
    CHECK_INT(st.st_mode & 0777, 0600);
    CHECK_INT(identity_load(path, &back, trouble, sizeof trouble), 0);
    CHECK(key_equal(&id.key, &back.key));
    CHECK_INT(memcmp(id.secret, back.secret, sizeof id.secret), 0);
    CHECK_INT(identity_save(path, &back), -EEXIST);
}

TEST("a key file that others can read is refused with a sentence")
{
    struct identity back;
    char trouble[256] = "";
    CHECK_INT(chmod(path, 0640), 0);
    CHECK_INT(identity_load(path, &back, trouble, sizeof trouble), -EPERM);
    CHECK(strstr(trouble, "can be read or written by others (mode 0640)") != NULL);
    CHECK_INT(chmod(path, 0600), 0);
    if (geteuid() == 0) {
        CHECK_INT(chown(path, 1, 1), 0);
        CHECK_INT(identity_load(path, &back, trouble, sizeof trouble), -EPERM);
        CHECK(strstr(trouble, "belongs to uid 1") != NULL);
        CHECK_INT(chown(path, 0, 0), 0);
    }
}

TEST("a damaged key file is refused")
{
    struct identity back;
    char trouble[256] = "", byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_INT(pread(fd, &byte, 1, 20), 1);
    byte = byte == 'a' ? 'b' : 'a';
    CHECK_INT(pwrite(fd, &byte, 1, 20), 1);
    CHECK_INT(identity_load(path, &back, trouble, sizeof trouble), -EBADMSG);
    CHECK_INT(ftruncate(fd, 30), 0);
    CHECK_INT(identity_load(path, &back, trouble, sizeof trouble), -EBADMSG);
    CHECK_INT(ftruncate(fd, 3000), 0);
    CHECK_INT(identity_load(path, &back, trouble, sizeof trouble), -EBADMSG);
    (void)close(fd);
    CHECK_INT(identity_load(folder, &back, trouble, sizeof trouble), -EINVAL);
}
