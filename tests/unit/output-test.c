#include "launch/output.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "test.h"

struct folder {
    char path[40], file[64];
};

static struct folder folder_make(void)
{
    struct folder f = {.path = "/tmp/berth-output-XXXXXX"};
    CHECK(mkdtemp(f.path) != NULL);
    (void)snprintf(f.file, sizeof f.file, "%s/out", f.path);
    return f;
}

static void folder_done(struct folder *f)
{
    (void)unlink(f->file);
    CHECK_INT(rmdir(f->path), 0);
}

static void write_text(int fd, const char *text)
{
    CHECK_INT(write(fd, text, strlen(text)), strlen(text));
}

static void read_text(int fd, const char *want)
{
    char text[64];
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    CHECK_TEXT(text, want);
}

TEST("what a worker writes is read, without waiting when there is nothing")
{
    struct folder f = folder_make();
    struct output o;
    struct stat st;
    char byte;
    CHECK_INT(output_open(f.path, "out", geteuid(), &o), 0);
    CHECK_INT(stat(f.file, &st), 0);
    CHECK_INT(st.st_mode, S_IFIFO | 0600);
    CHECK(fcntl(o.read_fd, F_GETFD) & fcntl(o.write_fd, F_GETFD) & FD_CLOEXEC);
    CHECK_INT(fcntl(o.write_fd, F_GETFL) & O_NONBLOCK, 0);
    CHECK_INT(read(o.read_fd, &byte, 1), -1);
    CHECK_INT(errno, EAGAIN);
    write_text(o.write_fd, "hello");
    read_text(o.read_fd, "hello");
    output_close(&o);
    CHECK_INT(output_remove(f.path, "out"), 0);
    CHECK_INT(output_remove(f.path, "out"), -ENOENT);
    folder_done(&f);
}

TEST("a worker goes on writing without a reader, and the next reader finds it all")
{
    struct folder f = folder_make();
    struct output first, second;
    CHECK_INT(output_open(f.path, "out", geteuid(), &first), 0);
    int worker = dup(first.write_fd);
    write_text(worker, "before ");
    output_close(&first);
    write_text(worker, "after");
    CHECK_INT(output_open(f.path, "out", geteuid(), &second), 0);
    read_text(second.read_fd, "before after");
    (void)close(worker);
    output_close(&second);
    folder_done(&f);
}

TEST("a FIFO is given to the worker's user, who may open it anew")
{
    if (geteuid() != 0) {
        (void)printf("# skipped: not root\n");
        return;
    }
    struct folder f = folder_make();
    struct output o;
    struct stat st;
    for (int i = 0; i < 2; i++) {
        CHECK_INT(output_open(f.path, "out", 65534, &o), 0);
        CHECK_INT(stat(f.file, &st), 0);
        CHECK_INT(st.st_uid, 65534);
        output_close(&o);
    }
    CHECK_INT(output_open(f.path, "out", 4242, &o), -EPERM);
    folder_done(&f);
}

TEST("what is no FIFO of ours is not touched")
{
    struct folder f = folder_make();
    struct output o;
    CHECK_INT(symlink("/dev/null", f.file), 0);
    CHECK_INT(output_open(f.path, "out", geteuid(), &o), -EPERM);
    (void)unlink(f.file);
    int fd = open(f.file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    (void)close(fd);
    CHECK_INT(output_open(f.path, "out", geteuid(), &o), -EPERM);
    (void)unlink(f.file);
    CHECK_INT(mkfifo(f.file, 0600) | chmod(f.file, 0622), 0);
    CHECK_INT(output_open(f.path, "out", geteuid(), &o), -EPERM);
    (void)unlink(f.file);
    CHECK_INT(output_open("/nonexistent", "out", geteuid(), &o), -ENOENT);
    folder_done(&f);
}
