/* The file of what was reserved by command, in the syntax of the configuration:
 *
 *   [reserve http://shop.example/]
 *   user = 1001
 *   delegate = no
 *   status = 503
 *   by = 0
 *
 * It is written whole beside the old one, which it then replaces: a full disk or a kill at any
 * moment leaves one of the two. Users are numbers: a name that changes hands takes no rights along.
 */
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/replace.h"
#include "berthd/reserve.h"

/* /var/lib/berth for root; a runtime folder that was chosen by hand is a world of its own. */
static int folder(char *buf, size_t size)
{
    const char *own = getenv("BERTH_STATE_DIR"), *runtime = getenv("BERTH_RUNTIME_DIR");
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;
    if (own && *own)
        n = snprintf(buf, size, "%s", own);
    else if (runtime && *runtime && strcmp(runtime, "/run/berth") != 0)
        n = snprintf(buf, size, "%s/state", runtime);
    else if (geteuid() == 0)
        n = snprintf(buf, size, "/var/lib/berth");
    else if (xdg && *xdg)
        n = snprintf(buf, size, "%s/berth", xdg);
    else
        n = snprintf(buf, size, "%s/.local/state/berth", home && *home ? home : "/nonexistent");
    return (size_t)n < size ? 0 : -ENAMETOOLONG;
}

static int folder_make(const char *path)
{
    char part[256];
    (void)snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

static char *trim(char *s)
{
    s += strspn(s, " \t");
    size_t n = strlen(s);
    while (n > 0 && strchr(" \t\r\n", s[n - 1]))
        s[--n] = 0;
    return s;
}

static int number(const char *text, unsigned long max, unsigned long *ret)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (!ascii_is_digit(text[0]) || *end || errno || v > max)
        return -EINVAL;
    *ret = v;
    return 0;
}

static int user_parse(const char *text, uid_t *ret_uid)
{
    unsigned long v;
    struct passwd *pw = NULL;
    if (number(text, UINT32_MAX - 1, &v) == 0) {
        *ret_uid = (uid_t)v;
        return 0;
    }
    pw = getpwnam(text);
    if (!pw)
        return -EINVAL;
    *ret_uid = pw->pw_uid;
    return 0;
}

static int key_parse(struct reservation *r, const char *key, const char *value)
{
    unsigned long v;
    if (strcmp(key, "user") == 0)
        return user_parse(value, &r->uid);
    if (strcmp(key, "by") == 0)
        return user_parse(value, &r->by);
    if (strcmp(key, "delegate") == 0) {
        r->delegate = strcmp(value, "yes") == 0;
        return r->delegate || strcmp(value, "no") == 0 ? 0 : -EINVAL;
    }
    if (strcmp(key, "status") != 0 || number(value, RESERVE_STATUS_MAX, &v) < 0 ||
        v < RESERVE_STATUS_MIN)
        return -EINVAL;
    r->status = (uint16_t)v;
    return 0;
}

/* The head of a section, "[reserve ROUTE]". */
static int head_parse(char *line, struct reservation *r)
{
    static const char head[] = "[reserve ";
    char reason[ROUTE_REASON_MAX];
    size_t n = strlen(line);
    *r = (struct reservation){.uid = RESERVE_NOBODY, .status = RESERVE_STATUS};
    if (strncmp(line, head, sizeof head - 1) != 0 || line[n - 1] != ']')
        return -EINVAL;
    line[n - 1] = 0;
    return route_parse(trim(line + sizeof head - 1), &r->route, reason);
}

static int section_end(struct reserve *v, const struct reservation *r, bool begun)
{
    if (!begun)
        return 0;
    return r->uid == RESERVE_NOBODY ? -EINVAL : reserve_table_add(&v->table, r);
}

static int line_parse(struct reserve *v, char *line, struct reservation *r, bool *begun)
{
    if (!*line || *line == '#' || *line == ';')
        return 0;
    if (*line == '[') {
        int err = section_end(v, r, *begun);
        *begun = true;
        int head = head_parse(line, r);
        *begun = head == 0;
        return err < 0 ? err : head;
    }
    char *equals = strchr(line, '=');
    if (!equals || !*begun)
        return -EINVAL;
    *equals = 0;
    return key_parse(r, trim(line), trim(equals + 1));
}

static void file_parse(struct reserve *v, FILE *f)
{
    struct reservation r;
    bool begun = false;
    char *line = NULL;
    size_t size = 0, at = 0;
    while (getline(&line, &size, f) >= 0) {
        at++;
        if (line_parse(v, trim(line), &r, &begun) == 0)
            continue;
        log_error("reservations not understood file=%s line=%zu", v->path, at);
        v->damaged = true;
    }
    if (ferror(f) || section_end(v, &r, begun) < 0)
        v->damaged = true;
    free(line);
}

void reserve_store_read(struct reserve *v)
{
    char dir[sizeof v->path - 32];
    v->path[0] = 0;
    if (folder(dir, sizeof dir) < 0)
        return;
    (void)snprintf(v->path, sizeof v->path, "%s/reservations.conf", dir);
    FILE *f = fopen(v->path, "re");
    if (f)
        file_parse(v, f);
    else
        v->damaged = errno != ENOENT;
    if (v->damaged)
        log_error("reservations cannot be changed until this file is mended file=%s", v->path);
    if (f)
        (void)fclose(f);
}

static void section_write(FILE *f, const struct reservation *r)
{
    char route[ROUTE_TEXT_MAX];
    (void)fprintf(f, "\n[reserve %s]\nuser = %u\ndelegate = %s\nstatus = %u\nby = %u\n",
                  route_format(&r->route, route), r->uid, r->delegate ? "yes" : "no", r->status,
                  r->by);
}

int reserve_store_write(const struct reserve *v, const struct reservation *except)
{
    char *text = NULL;
    size_t n = 0;
    if (v->damaged)
        return -EUCLEAN;
    if (!v->path[0])
        return -ENAMETOOLONG;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return -ENOMEM;
    (void)fprintf(f, "# Names reserved by `berth reserve`. berthd writes this file.\n");
    list_for_each(r, &v->table.all, struct reservation, link) if (!r->configured && r != except)
        section_write(f, r);
    int err = fclose(f) != 0 ? -ENOMEM : folder_make(v->path);
    if (err == 0)
        err = replace_file(v->path, (struct str){text, n}, 0644, true);
    free(text);
    return err;
}
