/* Replacing files. */
#include "base/replace.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "test.h"

static const char *made(char path[64], const char *name)
{
    char folder[] = "/tmp/berth-replace-XXXXXX";
    CHECK(mkdtemp(folder));
    (void)snprintf(path, 64, "%s/%s", folder, name);
    return path;
}

static void gone(char path[64])
{
    (void)unlink(path);
    *strrchr(path, '/') = 0;
    /* Fails when anything else is left. */
    CHECK_INT(rmdir(path), 0);
}

static struct str content(const char *path, char buf[64])
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, buf, 63);
    buf[n > 0 ? n : 0] = 0;
    return str_of(buf);
}

TEST("a file has the new text and mode, and nothing stands beside it")
{
    char path[64], buf[64];
    struct stat st;
    (void)made(path, "file");
    CHECK_INT(replace_file(path, STR("first"), 0644, true), 0);
    CHECK_STR(content(path, buf), "first");
    CHECK_INT(replace_file(path, STR("second"), 0600, false), 0);
    CHECK_STR(content(path, buf), "second");
    CHECK_INT(stat(path, &st), 0);
    CHECK_INT(st.st_mode & 07777, 0600);
    gone(path);
}

TEST("what a kill has left is written over")
{
    char path[64], left[72], buf[64];
    (void)made(path, "file");
    (void)snprintf(left, sizeof left, "%s.new", path);
    CLEANUP_FD int fd = open(left, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    CHECK_INT(write(fd, "a longer text", 13), 13);
    CHECK_INT(replace_file(path, STR("short"), 0600, true), 0);
    CHECK_STR(content(path, buf), "short");
    gone(path);
}

TEST("what cannot be replaced stays as it was")
{
    char path[64];
    (void)made(path, "folder");
    CHECK_INT(mkdir(path, 0700), 0);
    CHECK_INT(replace_file(path, STR("text"), 0600, true), -EISDIR);
    CHECK_INT(rmdir(path), 0);
    CHECK_INT(replace_file("/nonexistent/file", STR("text"), 0600, true), -ENOENT);
    gone(path);
}
