/* The file that holds an identity: one line, "berth-key-1 " and the seed with a checksum in
 * base32. A path comes in; an identity goes out, or a sentence that says what is wrong with the
 * file. */
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "keys/keys.h"

#define SEED_SUM  3
#define SEED_TEXT 56
static const char head[] = "berth-key-1 ";
#define LINE_SIZE (sizeof head - 1 + SEED_TEXT + 1)

/* A seed is no public key: its checksum has another label, so neither is taken for the other. */
static const char seed_label[] = "berth secret seed 1";

static int check(const struct stat *st, const char *path, char *trouble, size_t size)
{
    if (!S_ISREG(st->st_mode)) {
        (void)snprintf(trouble, size, "%s is not a regular file", path);
        return -EINVAL;
    }
    if (st->st_uid != geteuid()) {
        (void)snprintf(trouble, size, "%s belongs to uid %u, not to uid %u who wants to use it",
                       path, st->st_uid, geteuid());
        return -EPERM;
    }
    if (st->st_mode & 077) {
        (void)snprintf(trouble, size,
                       "%s can be read or written by others (mode %04o): if nobody has seen it, "
                       "`chmod 600 %s`, else make another",
                       path, st->st_mode & 07777, path);
        return -EPERM;
    }
    return 0;
}

static int line_decode(const char line[LINE_SIZE], struct identity *ret_id)
{
    uint8_t bytes[KEY_BYTES + SEED_SUM], sum[SEED_SUM];
    struct str text = {line + sizeof head - 1, SEED_TEXT};
    int r = -EBADMSG;
    if (memcmp(line, head, sizeof head - 1) == 0 && line[LINE_SIZE - 1] == '\n')
        r = base32_parse(text, bytes, sizeof bytes);
    if (r == 0) {
        key_checksum(seed_label, bytes, sum, sizeof sum);
        r = memcmp(sum, bytes + KEY_BYTES, sizeof sum) == 0 ? 0 : -EBADMSG;
    }
    if (r == 0)
        (void)crypto_sign_seed_keypair(ret_id->key.b, ret_id->secret, bytes);
    sodium_memzero(bytes, sizeof bytes);
    return r < 0 ? -EBADMSG : 0;
}

int identity_load(const char *path, struct identity *ret_id, char *trouble, size_t size)
{
    /* O_NONBLOCK: a FIFO in its place must not hold us up. */
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        int r = -errno;
        (void)snprintf(trouble, size, "%s: %s", path, strerror(-r));
        return r;
    }
    int r = check(&st, path, trouble, size);
    if (r < 0)
        return r;
    char line[LINE_SIZE + 1];
    ssize_t n = read(fd, line, sizeof line);
    r = n == (ssize_t)LINE_SIZE ? line_decode(line, ret_id) : -EBADMSG;
    sodium_memzero(line, sizeof line);
    if (r < 0)
        (void)snprintf(trouble, size, "%s is not a key file of berth, or it is damaged", path);
    return r;
}

static void line_encode(const struct identity *id, char line[LINE_SIZE + 1])
{
    uint8_t bytes[KEY_BYTES + SEED_SUM];
    (void)crypto_sign_ed25519_sk_to_seed(bytes, id->secret);
    key_checksum(seed_label, bytes, bytes + KEY_BYTES, SEED_SUM);
    memcpy(line, head, sizeof head - 1);
    base32_format(bytes, sizeof bytes, line + sizeof head - 1);
    line[LINE_SIZE - 1] = '\n';
    line[LINE_SIZE] = '\0';
    sodium_memzero(bytes, sizeof bytes);
}

int keys_folder_make(const char *path)
{
    char folder[4096];
    size_t n = strlen(path);
    if (n >= sizeof folder)
        return -ENAMETOOLONG;
    memcpy(folder, path, n + 1);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

static int line_write(int fd, const char *line)
{
    ssize_t n = write(fd, line, LINE_SIZE);
    if (n != (ssize_t)LINE_SIZE)
        return n < 0 ? -errno : -EIO;
    return fsync(fd) < 0 ? -errno : 0;
}

int identity_save(const char *path, const struct identity *id)
{
    char temporary[4096], line[LINE_SIZE + 1];
    int r = keys_folder_make(path);
    if (r < 0)
        return r;
    int n = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof temporary)
        return -ENAMETOOLONG;
    CLEANUP_FD int fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return -errno;
    line_encode(id, line);
    r = line_write(fd, line);
    sodium_memzero(line, sizeof line);
    /* link() fails where rename() would replace. */
    if (r == 0 && link(temporary, path) < 0)
        r = -errno;
    (void)unlink(temporary);
    return r;
}
