/* The cache of users' names. /etc/passwd is read first, which never waits; only for whom it does
 * not know the system's directories are asked, once in ten minutes for each. */
#include "berthd/names.h"

#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define ENTRIES 64
#define KEEP_MS 600000

struct entry {
    bool used;
    uid_t uid;
    uint64_t until_ms;
    char name[NAME_MAX_CHARS];
};

struct names {
    struct entry entries[ENTRIES];
    size_t next; /* to be overwritten */
};

struct names *names_new(void)
{
    return calloc(1, sizeof(struct names));
}

void names_free(struct names *n)
{
    free(n);
}

static bool from_file(uid_t uid, char name[NAME_MAX_CHARS])
{
    FILE *f = fopen("/etc/passwd", "re");
    bool found = false;
    for (struct passwd *pw; f && !found && (pw = fgetpwent(f));)
        if (pw->pw_uid == uid) {
            (void)snprintf(name, NAME_MAX_CHARS, "%s", pw->pw_name);
            found = true;
        }
    if (f)
        (void)fclose(f);
    return found;
}

static void look_up(uid_t uid, char name[NAME_MAX_CHARS])
{
    if (from_file(uid, name))
        return;
    struct passwd *pw = getpwuid(uid);
    if (pw)
        (void)snprintf(name, NAME_MAX_CHARS, "%s", pw->pw_name);
    else
        (void)snprintf(name, NAME_MAX_CHARS, "%u", uid);
}

static struct entry *entry_get(struct names *n, uid_t uid)
{
    for (size_t i = 0; i < ENTRIES; i++)
        if (n->entries[i].used && n->entries[i].uid == uid)
            return &n->entries[i];
    struct entry *e = &n->entries[n->next];
    n->next = (n->next + 1) % ENTRIES;
    *e = (struct entry){.used = true, .uid = uid};
    return e;
}

const char *names_user(struct names *n, uid_t uid, char buf[NAME_MAX_CHARS])
{
    (void)snprintf(buf, NAME_MAX_CHARS, "%u", uid);
    if (!n)
        return buf;
    struct entry *e = entry_get(n, uid);
    uint64_t now = clock_now_ms();
    if (e->until_ms <= now) {
        look_up(uid, e->name);
        e->until_ms = now + KEEP_MS;
    }
    (void)snprintf(buf, NAME_MAX_CHARS, "%s", e->name);
    return buf;
}
