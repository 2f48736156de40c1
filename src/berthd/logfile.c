/* Log files on the disk: names of applications and whole lines come in, appended bytes go out. A
 * name cannot leave the folder; files never grow beyond their limit; a full disk leaves no half of
 * a line. */
#include "berthd/logfile.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/str.h"

#define PATH_SIZE 4096
#define AGED_MAX  (LOGFILE_NAME_MAX + 16)

static int folder_path(char buf[PATH_SIZE])
{
    const char *own = getenv("BERTH_LOG_DIR"), *state = getenv("XDG_STATE_HOME"),
               *home = getenv("HOME"), *runtime = getenv("BERTH_RUNTIME_DIR");
    struct passwd *pw = home && *home ? NULL : getpwuid(geteuid());
    int n;
    if (pw)
        home = pw->pw_dir;
    if (own && *own)
        n = snprintf(buf, PATH_SIZE, "%s", own);
    else if (runtime && *runtime && strcmp(runtime, "/run/berth") != 0)
        n = snprintf(buf, PATH_SIZE, "%s/logs", runtime); /* Two berthds, two folders. */
    else if (geteuid() == 0)
        n = snprintf(buf, PATH_SIZE, "/var/log/berth");
    else if (state && *state)
        n = snprintf(buf, PATH_SIZE, "%s/berth/log", state);
    else if (home && *home)
        n = snprintf(buf, PATH_SIZE, "%s/.local/state/berth/log", home);
    else
        return -ENOENT;
    return n < PATH_SIZE ? 0 : -ENAMETOOLONG;
}

/* With its parents, as mkdir -p does. */
static void make_folder(char *path)
{
    mode_t mode = geteuid() == 0 ? 0755 : 0700;
    for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        (void)mkdir(path, mode);
        *slash = '/';
    }
    (void)mkdir(path, mode);
}

int logfile_folder(void)
{
    char path[PATH_SIZE];
    struct stat st;
    int r = folder_path(path);
    if (r < 0)
        return r;
    make_folder(path);
    CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (st.st_uid != geteuid() || st.st_mode & 022)
        return -EPERM;
    return fd_take(&fd);
}

static bool is_plain(char c, bool first)
{
    return ascii_is_digit(c) || ascii_is_alpha(c) || c == '-' || c == '_' || (c == '.' && !first);
}

/* What is no plain letter is written as its two hexadecimal digits, so that two names never become
 * one file and none is a path. */
static int name_encode(const char *name, const char *suffix, char buf[LOGFILE_NAME_MAX])
{
    size_t used = 0;
    for (const char *p = name; *p; p++) {
        if (used + 4 >= LOGFILE_NAME_MAX)
            return -ENAMETOOLONG;
        if (is_plain(*p, p == name))
            buf[used++] = *p;
        else
            used += (size_t)snprintf(buf + used, 4, "%%%02X", (unsigned char)*p);
    }
    if (used == 0)
        return -EINVAL;
    size_t room = LOGFILE_NAME_MAX - used;
    return (size_t)snprintf(buf + used, room, "%s.log", suffix) < room ? 0 : -ENAMETOOLONG;
}

/* Only a regular file of the owner's is written to, and a new one becomes the owner's. O_NONBLOCK:
 * a lease that the owner took must not keep berthd waiting. */
static int open_newest(struct logfile *f)
{
    struct stat st;
    CLEANUP_FD int fd =
        openat(f->folder_fd, f->name,
               O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0640);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EPERM;
    bool fresh = st.st_uid == geteuid() && st.st_size == 0;
    if (st.st_uid != f->owner && !(fresh && fchown(fd, f->owner, (gid_t)-1) == 0))
        return -EPERM;
    f->fd = fd_take(&fd);
    return 0;
}

int logfile_open(struct logfile *f, const char *name)
{
    char suffix[16];
    f->fd = -EBADF;
    if (geteuid() != 0)
        f->owner = geteuid();
    int r = name_encode(name, "", f->name);
    if (r == 0)
        r = open_newest(f);
    if (r != -EPERM)
        return r;
    /* An application of another user had this name. `~` is in no encoded name. */
    (void)snprintf(suffix, sizeof suffix, "~%u", f->owner);
    r = name_encode(name, suffix, f->name);
    return r < 0 ? r : open_newest(f);
}

void logfile_close(struct logfile *f)
{
    f->fd = fd_close(f->fd);
}

static void aged_name(const struct logfile *f, unsigned age, char buf[AGED_MAX])
{
    if (age == 0)
        (void)snprintf(buf, AGED_MAX, "%s", f->name);
    else
        (void)snprintf(buf, AGED_MAX, "%s.%u", f->name, age);
}

/* Each file becomes one older; the oldest goes, and what a smaller limit left over. */
static int rotate(struct logfile *f)
{
    char from[AGED_MAX], to[AGED_MAX];
    unsigned age = f->files - 1;
    do
        aged_name(f, age++, to);
    while (unlinkat(f->folder_fd, to, 0) == 0);
    for (age = f->files - 1; age > 0; age--) {
        aged_name(f, age - 1, from);
        aged_name(f, age, to);
        if (renameat(f->folder_fd, from, f->folder_fd, to) < 0 && errno != ENOENT)
            return -errno;
    }
    logfile_close(f);
    return open_newest(f);
}

/* Room for n more bytes in a file that is still in the folder: somebody may have removed or
 * emptied it. */
static int prepare(struct logfile *f, size_t n, uint64_t *ret_size)
{
    struct stat st;
    int r = 0;
    if (f->fd >= 0 && fstat(f->fd, &st) == 0 && st.st_nlink == 0)
        logfile_close(f);
    if (f->fd < 0)
        r = open_newest(f);
    if (r < 0 || fstat(f->fd, &st) < 0)
        return r < 0 ? r : -errno;
    if (st.st_size > 0 && (uint64_t)st.st_size + n > f->size_max) {
        r = rotate(f);
        st.st_size = 0;
    }
    *ret_size = (uint64_t)st.st_size;
    return r;
}

size_t logfile_append(struct logfile *f, const char *text, size_t n, int *ret_err)
{
    uint64_t size = 0;
    size_t done = 0;
    int r = prepare(f, n, &size);
    while (r == 0 && done < n) {
        ssize_t wrote = write(f->fd, text + done, n - done);
        if (wrote >= 0)
            done += (size_t)wrote;
        else if (errno != EINTR)
            r = -errno;
    }
    if (r == 0)
        return n;
    *ret_err = r;
    size_t whole = done;
    while (whole > 0 && text[whole - 1] != '\n')
        whole--;
    /* When even that fails, half a line stays; the next one is behind it. */
    if (whole < done && ftruncate(f->fd, (off_t)(size + whole)) < 0)
        return whole;
    return whole;
}

int logfile_reader(const struct logfile *f, unsigned age)
{
    char name[AGED_MAX];
    struct stat st;
    if (age >= f->files)
        return -ENOENT;
    aged_name(f, age, name);
    CLEANUP_FD int fd = openat(f->folder_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_uid != f->owner)
        return -EPERM;
    return fd_take(&fd);
}
