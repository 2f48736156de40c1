#include "ipc/runtime.h"
#include "runtime-folder.h"

#include <sys/socket.h>
#include <sys/stat.h>

TEST("the folder of the environment comes before all others")
{
    char path[RUNTIME_PATH_MAX];
    CHECK_INT(setenv("BERTH_RUNTIME_DIR", "/a/b", 1), 0);
    CHECK_INT(setenv("XDG_RUNTIME_DIR", "/x", 1), 0);
    CHECK_INT(runtime_path("control", path), 0);
    CHECK_TEXT(path, "/a/b/control");
    CHECK_INT(setenv("BERTH_RUNTIME_DIR", "", 1), 0);
    CHECK_INT(runtime_path("control", path), 0);
    CHECK_TEXT(path, geteuid() == 0 ? "/run/berth/control" : "/x/berth/control");
}

TEST("a path that no socket could have is an error, wherever it gets too long")
{
    char path[RUNTIME_PATH_MAX], folder[2 * RUNTIME_PATH_MAX];
    for (size_t n = 1; n < sizeof folder; n++) {
        memset(folder, 'f', n);
        folder[0] = '/';
        folder[n] = 0;
        CHECK_INT(setenv("BERTH_RUNTIME_DIR", folder, 1), 0);
        int want = n + strlen("/control") < RUNTIME_PATH_MAX ? 0 : -ENAMETOOLONG;
        CHECK_INT(runtime_path("control", path), want);
    }
    CHECK_INT(runtime_make(), -ENAMETOOLONG);
    CHECK_INT(runtime_listen("control", 0600), -ENAMETOOLONG);
    CHECK_INT(runtime_connect("control"), -ENAMETOOLONG);
}

TEST("the folder is made for this user and found again")
{
    char parent[FOLDER_MAX], folder[FOLDER_MAX + 8];
    folder_new(parent);
    (void)snprintf(folder, sizeof folder, "%s/sub", parent);
    CHECK_INT(setenv("BERTH_RUNTIME_DIR", folder, 1), 0);
    CHECK_INT(runtime_make(), 0);
    CHECK_INT(runtime_make(), 0);
    struct stat st = {0};
    CHECK_INT(stat(folder, &st), 0);
    CHECK_INT(st.st_mode & 022, 0);
    CHECK_INT(rmdir(folder), 0);
    folder_done(parent, NULL);
}

TEST("a folder that others may write to is refused")
{
    char folder[FOLDER_MAX];
    folder_new(folder);
    CHECK_INT(chmod(folder, 0770), 0);
    CHECK_INT(runtime_make(), -EPERM);
    CHECK_INT(chmod(folder, 0707), 0);
    CHECK_INT(runtime_make(), -EPERM);
    CHECK_INT(chmod(folder, 01777), 0);
    CHECK_INT(runtime_make(), -EPERM);
    CHECK_INT(chmod(folder, 0755), 0);
    CHECK_INT(runtime_make(), 0);
    folder_done(folder, NULL);
}

TEST("somebody else's folder is refused")
{
    char folder[FOLDER_MAX];
    folder_new(folder);
    if (geteuid() != 0) {
        CHECK_INT(setenv("BERTH_RUNTIME_DIR", "/", 1), 0);
        CHECK_INT(runtime_make(), -EPERM);
    } else if (chown(folder, 65534, 65534) == 0) {
        CHECK_INT(runtime_make(), -EPERM);
    }
    folder_done(folder, NULL);
}

TEST("a file or a link in the folder's place is refused")
{
    char folder[FOLDER_MAX], target[FOLDER_MAX];
    folder_new(target);
    folder_new(folder);
    CHECK_INT(rmdir(folder), 0);
    CHECK_INT(symlink(target, folder), 0);
    CHECK_INT(runtime_make(), -EPERM);
    CHECK_INT(unlink(folder), 0);
    CHECK_INT(symlink("/dev/null", folder), 0);
    CHECK_INT(runtime_make(), -EPERM);
    CHECK_INT(unlink(folder), 0);
    folder_done(target, NULL);
}

TEST("a folder whose parent is missing cannot be made")
{
    CHECK_INT(setenv("BERTH_RUNTIME_DIR", "/nonexistent/berth/unit", 1), 0);
    CHECK_INT(runtime_make(), -ENOENT);
    CHECK_INT(runtime_connect("control"), -ENOENT);
    CHECK_INT(runtime_listen("control", 0600), -ENOENT);
}

TEST("a listener takes the place of the older one, which keeps what it has")
{
    char folder[FOLDER_MAX], path[RUNTIME_PATH_MAX];
    folder_new(folder);
    CLEANUP_FD int old = runtime_listen("control", 0600);
    CLEANUP_FD int first = runtime_connect("control");
    CHECK(old >= 0 && first >= 0);
    CLEANUP_FD int fresh = runtime_listen("control", 0640);
    CLEANUP_FD int second = runtime_connect("control");
    CHECK(fresh >= 0 && second >= 0);
    struct stat st = {0};
    CHECK_INT(runtime_path("control", path), 0);
    CHECK_INT(stat(path, &st), 0);
    CHECK(S_ISSOCK(st.st_mode));
    CHECK_INT(st.st_mode & 0777, 0640);
    CLEANUP_FD int from_old = accept4(old, NULL, NULL, SOCK_CLOEXEC);
    CLEANUP_FD int from_fresh = accept4(fresh, NULL, NULL, SOCK_CLOEXEC);
    CHECK(from_old >= 0 && from_fresh >= 0);
    CHECK_INT(accept4(old, NULL, NULL, SOCK_CLOEXEC), -1);
    CHECK_INT(errno, EAGAIN);
    CHECK_INT(send(second, "x", 1, 0), 1);
    char byte = 0;
    CHECK_INT(recv(from_fresh, &byte, 1, 0), 1);
    CHECK_INT(byte, 'x');
    folder_done(folder, "control");
}

TEST("what a listener that died half-way left behind is in nobody's way")
{
    char folder[FOLDER_MAX], path[FOLDER_MAX + 16];
    folder_new(folder);
    (void)snprintf(path, sizeof path, "%s/control.new", folder);
    CHECK_INT(mknod(path, S_IFREG | 0600, 0), 0);
    CLEANUP_FD int fd = runtime_listen("control", 0600);
    CHECK(fd >= 0);
    folder_done(folder, "control");
}

TEST("a socket that nobody listens at refuses")
{
    char folder[FOLDER_MAX];
    folder_new(folder);
    int fd = runtime_listen("control", 0600);
    CHECK(fd >= 0);
    (void)fd_close(fd);
    CHECK_INT(runtime_connect("control"), -ECONNREFUSED);
    folder_done(folder, "control");
}
