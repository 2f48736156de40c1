/* Reads and writes the file of known peers. A path comes in; entries go out, owned by the struct.
 */
#include "keys/known.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/replace.h"

#define LINE_SIZE 256

static int line_parse(const char *line, struct known_peer *ret_peer)
{
    char name[KNOWN_NAME_MAX + 2], key[KEY_TEXT_MAX + 1], end[2];
    unsigned long long since, sequence;
    struct known_peer p = {.name = ""};
    int n = sscanf(line, "%41s %57s %llu %llu %1s", name, key, &since, &sequence, end);
    if (n != 4 || strlen(name) > KNOWN_NAME_MAX || key_parse(str_of(key), &p.key) < 0)
        return -EBADMSG;
    if (strcmp(name, "-") != 0)
        memcpy(p.name, name, strlen(name) + 1);
    p.since = since;
    p.sequence = sequence;
    *ret_peer = p;
    return 0;
}

static int read_all(FILE *f, struct known *k, size_t *ret_line)
{
    char line[LINE_SIZE];
    for (size_t n = 1; fgets(line, sizeof line, f); n++) {
        struct known_peer p;
        if (line[0] == '#' || line[0] == '\n')
            continue;
        int r = line_parse(line, &p);
        if (r == 0)
            r = known_add(k, &p);
        if (r < 0) {
            *ret_line = n;
            return r;
        }
    }
    return ferror(f) ? -EIO : 0;
}

static int lock_take(struct known *k)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s.lock", k->path) >= sizeof path)
        return -ENAMETOOLONG;
    k->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (k->lock_fd < 0)
        return -errno;
    return flock(k->lock_fd, LOCK_EX) < 0 ? -errno : 0;
}

int known_open(const char *path, bool change, struct known *ret_known, size_t *ret_line)
{
    struct known k = {.path = strdup(path), .lock_fd = -EBADF};
    int r = k.path ? 0 : -ENOMEM;
    *ret_line = 0;
    if (r == 0 && change)
        r = lock_take(&k);
    FILE *f = r == 0 ? fopen(path, "re") : NULL;
    if (r == 0 && !f && errno != ENOENT)
        r = -errno;
    if (f) {
        r = read_all(f, &k, ret_line);
        (void)fclose(f);
    }
    if (r < 0) {
        known_done(&k);
        return r;
    }
    *ret_known = k;
    return 0;
}

void known_done(struct known *k)
{
    free(k->peers);
    free(k->path);
    k->lock_fd = fd_close(k->lock_fd);
    k->peers = NULL;
    k->path = NULL;
    k->count = 0;
}

struct known_peer *known_by_name(const struct known *k, const char *name)
{
    for (size_t i = 0; i < k->count; i++)
        if (strcmp(k->peers[i].name, name) == 0)
            return &k->peers[i];
    return NULL;
}

struct known_peer *known_find(const struct known *k, const char *name, const struct key *key)
{
    if (*name)
        return known_by_name(k, name);
    for (size_t i = 0; i < k->count; i++)
        if (key_equal(&k->peers[i].key, key))
            return &k->peers[i];
    return NULL;
}

uint64_t known_sequence(const struct known *k, const struct key *key)
{
    uint64_t most = 0;
    for (size_t i = 0; i < k->count; i++)
        if (k->peers[i].sequence > most && key_equal(&k->peers[i].key, key))
            most = k->peers[i].sequence;
    return most;
}

int known_add(struct known *k, const struct known_peer *peer)
{
    if (k->count == KNOWN_MAX)
        return -ENOSPC;
    struct known_peer *more = reallocarray(k->peers, k->count + 1, sizeof *more);
    if (!more)
        return -ENOMEM;
    more[k->count++] = *peer;
    k->peers = more;
    return 0;
}

void known_remove(struct known *k, struct known_peer *peer)
{
    size_t i = (size_t)(peer - k->peers);
    memmove(peer, peer + 1, (k->count - i - 1) * sizeof *peer);
    k->count--;
}

int known_save(const struct known *k)
{
    char key[KEY_TEXT_MAX], *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return -ENOMEM;
    for (size_t i = 0; i < k->count; i++) {
        const struct known_peer *p = &k->peers[i];
        (void)fprintf(f, "%s %s %llu %llu\n", *p->name ? p->name : "-", key_format(&p->key, key),
                      (unsigned long long)p->since, (unsigned long long)p->sequence);
    }
    int r = fclose(f) != 0 ? -ENOMEM : replace_file(k->path, (struct str){text, n}, 0600, true);
    free(text);
    return r;
}
