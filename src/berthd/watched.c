/* The files whose change replaces a pool's workers: times, numbers and sizes of them all, and of
 * what lies directly in the folders among them, come out as one number. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "berthd/pool.h"

#define PATH_BYTES  4096
#define ENTRIES_MAX 4096

static uint64_t stamp_of(const struct stat *st)
{
    uint64_t time = (uint64_t)st->st_mtim.tv_sec * 1000003u + (uint64_t)st->st_mtim.tv_nsec;
    return time * 31 + (uint64_t)st->st_ino * 7 + (uint64_t)st->st_size;
}

/* A sum, as nobody promises an order. Hidden files are editors' and version control's. */
static uint64_t folder_stamp(const char *path)
{
    uint64_t stamp = 0;
    DIR *folder = opendir(path);
    if (!folder)
        return 0;
    struct dirent *e;
    for (size_t n = 0; n < ENTRIES_MAX && (e = readdir(folder)); n++) {
        struct stat st;
        if (e->d_name[0] != '.' && fstatat(dirfd(folder), e->d_name, &st, 0) == 0)
            stamp += stamp_of(&st);
    }
    (void)closedir(folder);
    return stamp;
}

static uint64_t path_stamp(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return 0;
    return S_ISDIR(st.st_mode) ? folder_stamp(path) : stamp_of(&st);
}

/* A local user's files are looked at with his rights: of others he learns nothing this way, and a
 * file system that is his own cannot keep berthd waiting. */
static void rights_lend(const struct pool *p, bool on)
{
    if (p->server->uid != 0 || p->app->uid == 0)
        return;
    gid_t group = p->conf->group ? (gid_t)strtoul(p->conf->group, NULL, 10) : (gid_t)-1;
    (void)setfsgid(on ? group : getegid());
    (void)setfsuid(on ? p->app->uid : geteuid());
}

uint64_t watched_stamp(const struct pool *p)
{
    uint64_t stamp = 0;
    rights_lend(p, true);
    const char *folder = p->conf->directory ? p->conf->directory : "/";
    for (size_t i = 0; i < p->conf->watch.count; i++) {
        char path[PATH_BYTES];
        const char *item = p->conf->watch.items[i];
        int n = snprintf(path, sizeof path, "%s%s%s", *item == '/' ? "" : folder,
                         *item == '/' ? "" : "/", item);
        stamp = stamp * 31 + ((size_t)n < sizeof path ? path_stamp(path) : 0);
    }
    rights_lend(p, false);
    return stamp;
}

void watched_begin(struct pool *p)
{
    p->stamp = watched_stamp(p);
    p->changed_ms = 0;
}
