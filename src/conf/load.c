/* From a path to a configuration: which files there are, in which order they are read, and their
 * bytes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "conf/reader.h"

static void reader_done(struct conf_reader *r)
{
    conf_free(r->conf);
    conf_index_free(r->reserved);
    conf_index_free(r->claims);
    free(r->words);
    free(r->route_lines);
}

static int reader_init(struct conf_reader *r, struct conf_errors *errors)
{
    *r = (struct conf_reader){.errors = errors, .file = ""};
    r->conf = calloc(1, sizeof *r->conf);
    r->words = malloc(sizeof *r->words);
    r->reserved = conf_index_new();
    r->claims = conf_index_new();
    if (!r->conf || !r->words || !r->reserved || !r->claims)
        return -ENOMEM;
    r->conf->names = conf_index_new();
    if (!r->conf->names || conf_defaults(CONF_SECTION_BERTH, r->words, &r->conf->global) < 0 ||
        conf_defaults(CONF_SECTION_APP, r->words, &r->app) < 0 ||
        conf_defaults(CONF_SECTION_RESERVE, r->words, &r->reserve) < 0)
        return -ENOMEM;
    return 0;
}

/* The configuration, or what stands against it. Ends the reader. */
static int reader_finish(struct conf_reader *r, struct conf **ret_conf)
{
    int err = r->short_of_memory ? -ENOMEM : r->errors->count > 0 ? -EINVAL : 0;
    if (err == 0) {
        *ret_conf = r->conf;
        r->conf = NULL;
    }
    reader_done(r);
    return err;
}

/* Errors and sections name the file, which must live as long as the configuration. */
static int file_note(struct conf_reader *r, const char *path)
{
    struct conf_list *l = &r->conf->files;
    char **items = reallocarray(l->items, l->count + 2, sizeof *items);
    if (!items)
        return -ENOMEM;
    l->items = items;
    items[l->count] = strdup(path);
    if (!items[l->count])
        return -ENOMEM;
    r->file = items[l->count++];
    items[l->count] = NULL;
    return 0;
}

static int bytes_read(int fd, char **ret_text, size_t *ret_n)
{
    size_t n = 0, room = 0;
    char *text = NULL;
    while (true) {
        if (room - n < 4096) {
            room = room ? room * 2 : 65536;
            char *more = room > 2 * (size_t)CONF_FILE_MAX ? NULL : realloc(text, room);
            if (!more) {
                free(text);
                return room > 2 * (size_t)CONF_FILE_MAX ? -EFBIG : -ENOMEM;
            }
            text = more;
        }
        ssize_t got = read(fd, text + n, room - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int err = got < 0 ? -errno : 0;
            *ret_text = text;
            *ret_n = n;
            if (err < 0)
                free(text);
            return err;
        }
        n += (size_t)got;
    }
}

static void unreadable(struct conf_reader *r, int err)
{
    if (err == -ENOMEM)
        r->short_of_memory = true;
    else if (err == -EFBIG)
        conf_complain(r, 0, "", "the file is larger than %d MiB", CONF_FILE_MAX >> 20);
    else
        conf_complain(r, 0, "", "cannot be read: %s", strerror(-err));
}

/* Whoever may write a configuration runs programs by it, as any user when berthd is root's. */
static void trust_check(struct conf_reader *r, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    if (st.st_mode & S_IWOTH)
        conf_complain(r, 0, "", "everybody may write this file: chmod o-w it");
    else if (geteuid() == 0 && st.st_mode & S_IWGRP && st.st_gid != 0)
        conf_complain(r, 0, "", "group %u may write this file: chmod g-w it, or chgrp it to root",
                      st.st_gid);
}

static void file_read(struct conf_reader *r, const char *path)
{
    char *text = NULL;
    size_t n = 0;
    if (file_note(r, path) < 0) {
        r->short_of_memory = true;
        return;
    }
    /* Nobody is to make us wait for the other end of a FIFO. */
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int err = fd < 0 ? -errno : bytes_read(fd, &text, &n);
    if (err < 0) {
        unreadable(r, err);
        return;
    }
    trust_check(r, fd);
    conf_lines_read(r, (struct str){text, n});
    free(text);
}

static int is_conf(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return e->d_name[0] != '.' && n > 5 && strcmp(e->d_name + n - 5, ".conf") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void path_join(struct conf_reader *r, const char *folder, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", folder, name) < 0) {
        r->short_of_memory = true;
        return;
    }
    file_read(r, path);
    free(path);
}

static void apps_read(struct conf_reader *r, const char *folder)
{
    struct dirent **names;
    int n = scandir(folder, &names, is_conf, by_bytes);
    if (n < 0) {
        r->file = folder;
        if (errno != ENOENT)
            unreadable(r, -errno);
        return;
    }
    for (int i = 0; i < n; i++) {
        path_join(r, folder, names[i]->d_name);
        free(names[i]);
    }
    free(names);
}

static void folder_read(struct conf_reader *r, const char *folder)
{
    char *main_file = NULL, *apps = NULL;
    struct stat st;
    if (asprintf(&main_file, "%s/berth.conf", folder) < 0)
        main_file = NULL;
    if (asprintf(&apps, "%s/apps.d", folder) < 0)
        apps = NULL;
    r->short_of_memory |= !main_file || !apps;
    if (main_file && (stat(main_file, &st) == 0 || errno != ENOENT))
        file_read(r, main_file);
    if (apps && !r->short_of_memory)
        apps_read(r, apps);
    r->file = "";
    free(main_file);
    free(apps);
}

int conf_default_path(char *buf, size_t size)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n;
    if (geteuid() == 0)
        n = snprintf(buf, size, "/etc/berth");
    else if (xdg && *xdg == '/')
        n = snprintf(buf, size, "%s/berth", xdg);
    else if (home && *home == '/')
        n = snprintf(buf, size, "%s/.config/berth", home);
    else
        return -ENOENT;
    return (size_t)n < size ? 0 : -ENAMETOOLONG;
}

/* The usual place need not exist; nor is it ours behind a folder that we may not enter, as where
 * setpriv or su have left another user's HOME. */
static bool is_missing(const char *path)
{
    struct stat st;
    return stat(path, &st) < 0 && (errno == ENOENT || errno == EACCES);
}

static void place_read(struct conf_reader *r, const char *path, bool may_be_missing)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        folder_read(r, path);
    else if (!may_be_missing || !is_missing(path))
        file_read(r, path);
}

int conf_read(const char *path, struct conf **ret_conf, struct conf_errors *errors)
{
    struct conf_reader r;
    char place[4096];
    if (reader_init(&r, errors) < 0) {
        reader_done(&r);
        return -ENOMEM;
    }
    if (path)
        place_read(&r, path, false);
    else if (conf_default_path(place, sizeof place) == 0)
        place_read(&r, place, true);
    return reader_finish(&r, ret_conf);
}

int conf_read_text(struct str text, const char *file, struct conf **ret_conf,
                   struct conf_errors *errors)
{
    struct conf_reader r;
    if (reader_init(&r, errors) < 0 || file_note(&r, file) < 0) {
        reader_done(&r);
        return -ENOMEM;
    }
    conf_lines_read(&r, text);
    return reader_finish(&r, ret_conf);
}
