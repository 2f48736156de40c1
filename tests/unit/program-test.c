/* Looks for programs in folders of its own. */
#include "launch/program.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "test.h"

struct folder {
    char path[32], file[64];
};

/* A folder with one executable file of these bytes. */
static struct folder folder_make(const char *name, const void *bytes, size_t n)
{
    struct folder f = {.path = "/tmp/berth-program-XXXXXX"};
    CHECK(mkdtemp(f.path) != NULL);
    (void)snprintf(f.file, sizeof f.file, "%s/%s", f.path, name);
    int fd = open(f.file, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
    CHECK_INT(write(fd, bytes, n), n);
    (void)close(fd);
    return f;
}

static void folder_done(struct folder *f)
{
    (void)unlink(f->file);
    (void)rmdir(f->path);
}

/* The head of this program without its tables: so it has no loader. */
static Elf64_Ehdr static_program(void)
{
    Elf64_Ehdr e = {0};
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK_INT(read(fd, &e, sizeof e), sizeof e);
    (void)close(fd);
    e.e_phnum = e.e_shnum = 0;
    return e;
}

TEST("a command is found in PATH, below the directory, or as it stands")
{
    char buf[PROGRAM_PATH_MAX], path[128];
    struct folder f = folder_make("tool", "#!/bin/sh\n", 10);
    (void)snprintf(path, sizeof path, "/nonexistent::%s", f.path);
    CHECK_TEXT(program_find("tool", &(struct program_place){.path = path}, buf), f.file);
    CHECK_TEXT(program_find("./tool", &(struct program_place){.directory = "/srv"}, buf),
               "/srv/./tool");
    CHECK_TEXT(
        program_find("tool", &(struct program_place){.path = ".", .directory = f.path}, buf) +
            strlen(f.path),
        "/./tool");
    CHECK_TEXT(program_find("/x/y", &(struct program_place){.directory = "/srv"}, buf), "/x/y");
    CHECK_TEXT(program_find("nothing", &(struct program_place){.path = path}, buf), "nothing");
    CHECK_TEXT(program_find("sh", &(struct program_place){0}, buf), "/bin/sh");
    folder_done(&f);
}

TEST("a static program, and a script for one, is refused with its name and the reason")
{
    char reason[PROGRAM_REASON_MAX], want[256], script[128];
    Elf64_Ehdr e = static_program();
    struct folder f = folder_make("static", &e, sizeof e);
    struct program_place place = {.path = f.path};
    CHECK_INT(program_check("static", &place, reason), -ENOEXEC);
    (void)snprintf(want, sizeof want,
                   "%s is statically linked: nothing can be preloaded into it, so its ports cannot "
                   "be shared this way",
                   f.file);
    CHECK_TEXT(reason, want);
    (void)snprintf(script, sizeof script, "#!%s\n", f.file);
    struct folder s = folder_make("script", script, strlen(script));
    CHECK_INT(program_check(s.file, &place, reason), -ENOEXEC);
    CHECK(strstr(reason, s.file) == reason);
    folder_done(&s);
    folder_done(&f);
}

TEST("an ordinary program, and one that does not exist, is let pass")
{
    char reason[PROGRAM_REASON_MAX];
    CHECK_INT(program_check("/proc/self/exe", &(struct program_place){0}, reason), 0);
    CHECK_INT(program_check("/nonexistent/x", &(struct program_place){0}, reason), 0);
}
