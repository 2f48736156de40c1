/* Inspects this very program, and copies of it with single things changed. */
#include "launch/elf.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

#define PROGRAM_MAX (64 << 20)

struct copy {
    char path[32];
    char *bytes;
    size_t n;
};

static struct copy copy_of(const char *path)
{
    struct copy c = {.path = "/tmp/berth-elf-XXXXXX", .bytes = malloc(PROGRAM_MAX)};
    int from = open(path, O_RDONLY | O_CLOEXEC), to = mkostemp(c.path, O_CLOEXEC);
    ssize_t got;
    while ((got = read(from, c.bytes + c.n, PROGRAM_MAX - c.n)) > 0)
        c.n += (size_t)got;
    (void)close(from);
    (void)close(to);
    return c;
}

static struct elf_facts inspect(const struct copy *c, size_t n)
{
    struct elf_facts f = {0};
    int fd = open(c->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    CHECK_INT(write(fd, c->bytes, n), n);
    (void)close(fd);
    CHECK_INT(elf_inspect(c->path, &f), 0);
    return f;
}

static void copy_done(struct copy *c)
{
    (void)unlink(c->path);
    free(c->bytes);
}

TEST("a dynamically linked program of this machine has no obstacle")
{
    struct elf_facts f;
    CHECK_INT(elf_inspect("/proc/self/exe", &f), 0);
    CHECK(f.is_elf);
    CHECK(strstr(f.interpreter, "ld-") != NULL);
    CHECK(!f.is_script && !f.is_static && !f.is_go && !f.is_privileged && !f.is_foreign);
    CHECK(!f.is_other_libc);
}

TEST("a program without a loader is static")
{
    struct copy c = copy_of("/proc/self/exe");
    Elf64_Ehdr e;
    memcpy(&e, c.bytes, sizeof e);
    for (size_t i = 0; i < e.e_phnum; i++) {
        Elf64_Phdr p;
        memcpy(&p, c.bytes + e.e_phoff + i * sizeof p, sizeof p);
        if (p.p_type == PT_INTERP)
            p.p_type = PT_NULL;
        memcpy(c.bytes + e.e_phoff + i * sizeof p, &p, sizeof p);
    }
    CHECK(inspect(&c, c.n).is_static);
    copy_done(&c);
}

TEST("a Go program is known by its sections")
{
    struct copy c = copy_of("/proc/self/exe");
    /* The table of names is the last place that has one; this test's text is another. */
    char *name = NULL, *next = c.bytes;
    while ((next = memmem(next, c.n - (size_t)(next - c.bytes), "\0.gnu.version_r", 16)))
        name = next++;
    CHECK(name != NULL);
    if (name)
        memcpy(name + 1, ".go.buildinfo\0", 15);
    struct elf_facts f = inspect(&c, c.n);
    CHECK(f.is_go);
    CHECK(!f.is_static);
    copy_done(&c);
}

TEST("a program of another word size or byte order is foreign")
{
    struct copy c = copy_of("/proc/self/exe");
    c.bytes[EI_CLASS] = ELFCLASS32;
    CHECK(inspect(&c, c.n).is_foreign);
    c.bytes[EI_CLASS] = ELFCLASS64;
    c.bytes[EI_DATA] = ELFDATA2MSB;
    CHECK(inspect(&c, c.n).is_foreign);
    c.bytes[EI_DATA] = ELFDATA2LSB;
    c.bytes[18] = (char)EM_S390;
    CHECK(inspect(&c, c.n).is_foreign);
    copy_done(&c);
}

TEST("a truncated or damaged program is read without harm")
{
    struct copy c = copy_of("/proc/self/exe");
    for (size_t n = 0; n < 1024; n++)
        CHECK_INT(inspect(&c, n).is_elf, n >= SELFMAG);
    for (size_t at = EI_NIDENT; at < 1024; at++) {
        char saved = c.bytes[at];
        c.bytes[at] = (char)0xff;
        CHECK(inspect(&c, 8192 < c.n ? 8192 : c.n).is_elf);
        c.bytes[at] = saved;
    }
    copy_done(&c);
}

TEST("a program that changes its user is privileged")
{
    struct copy c = copy_of("/proc/self/exe");
    CHECK(!inspect(&c, c.n).is_privileged);
    CHECK_INT(chmod(c.path, 04755), 0);
    struct elf_facts f;
    CHECK_INT(elf_inspect(c.path, &f), 0);
    CHECK(!f.is_privileged); /* Its owner's own. */
    if (geteuid() == 0) {
        CHECK_INT(chown(c.path, 65534, 65534), 0);
        CHECK_INT(chmod(c.path, 04755), 0);
        CHECK_INT(elf_inspect(c.path, &f), 0);
        CHECK(f.is_privileged);
    }
    copy_done(&c);
}

TEST("a script names its interpreter")
{
    struct copy c = copy_of("/dev/null");
    static const struct {
        const char *text, *interpreter;
    } cases[] = {{"#!/bin/sh\n", "/bin/sh"},
                 {"#! \t/usr/bin/env python3\n", "/usr/bin/env"},
                 {"#!/bin/sh", "/bin/sh"},
                 {"#!", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        c.n = strlen(cases[i].text);
        memcpy(c.bytes, cases[i].text, c.n);
        struct elf_facts f = inspect(&c, c.n);
        CHECK(f.is_script && !f.is_elf);
        CHECK_TEXT(f.interpreter, cases[i].interpreter);
    }
    memset(c.bytes + 2, 'a', 4096);
    CHECK_INT(strlen(inspect(&c, 4098).interpreter) < ELF_INTERPRETER_MAX, true);
    copy_done(&c);
}

TEST("what is no program is nothing, and what is not there is an error")
{
    struct elf_facts f;
    CHECK_INT(elf_inspect("/dev/null", &f), 0);
    CHECK(!f.is_elf && !f.is_script);
    CHECK_INT(elf_inspect("/", &f), 0);
    CHECK(!f.is_elf);
    CHECK_INT(elf_inspect("/nonexistent", &f), -ENOENT);
}
