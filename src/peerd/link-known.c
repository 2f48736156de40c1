/* The keys of servers, as they were when they were first seen: lines of HOST:PORT, key and time. A
 * name and a key come in; whether they belong together goes out. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "keys/keys.h"
#include "peerd/link-internal.h"

/* Above it nothing is added, and a server that is not known is taken as it is. */
#define KNOWN_SERVERS_MAX 1000
#define LINE_SIZE         512

/* Its key, in the first line that names it. -ENOENT. */
static int known_find(FILE *f, const char *name, struct key *ret_key, size_t *ret_lines)
{
    char line[LINE_SIZE], known[LINK_SERVER_MAX], text[KEY_TEXT_MAX];
    struct key key;
    int r = -ENOENT;
    *ret_lines = 0;
    while (fgets(line, sizeof line, f)) {
        (*ret_lines)++;
        if (line[0] == '#' || sscanf(line, "%299s %56s", known, text) != 2 ||
            strcmp(known, name) != 0 || key_parse(str_of(text), &key) < 0)
            continue;
        *ret_key = key;
        r = 0;
    }
    return r;
}

/* One write of one line: nobody sees a part of it. */
static int known_append(const char *path, const char *name, const struct key *key)
{
    char line[LINE_SIZE], text[KEY_TEXT_MAX];
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int n = snprintf(line, sizeof line, "%s %s %llu\n", name, key_format(key, text),
                     (unsigned long long)time(NULL));
    if (n < 0 || (size_t)n >= sizeof line)
        return -ENAMETOOLONG;
    return write(fd, line, (size_t)n) == n ? 0 : -EIO;
}

int known_server_check(const char *path, const char *name, const struct key *key,
                       struct key *ret_was)
{
    struct key was;
    size_t lines = 0;
    FILE *f = fopen(path, "re");
    int r = f ? known_find(f, name, &was, &lines) : -errno;
    if (f)
        (void)fclose(f);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT)
        return lines < KNOWN_SERVERS_MAX ? known_append(path, name, key) : 0;
    if (key_equal(&was, key))
        return 0;
    *ret_was = was;
    return -EKEYREJECTED;
}
