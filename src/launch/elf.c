/* Reads as much of a program file as tells whether we can be preloaded into it. The file is foreign
 * bytes: every number in it is read through a cursor and bounded before it is used. */
#include "launch/elf.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/rd.h"

#define PHDRS_MAX    64
#define SECTIONS_MAX 128
#define NAMES_MAX    4096

#define PHDR_SIZE    56
#define SECTION_SIZE 64

/* The fields of ELF64 headers that matter, in our byte order: foreign files are not read further.
 */
struct header {
    uint64_t phoff, shoff;
    uint16_t machine, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct section {
    uint32_t name;
    uint64_t offset, size;
};

static uint64_t rd_native(struct rd *r, size_t n)
{
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? rd_le(r, n) : rd_be(r, n);
}

/* A cursor over what the file has at this place, at most n bytes of buf. */
static struct rd file_read(int fd, void *buf, size_t n, uint64_t offset)
{
    ssize_t got = offset > INT64_MAX ? -1 : pread(fd, buf, n, (off_t)offset);
    return rd_init(buf, got > 0 ? (size_t)got : 0);
}

static bool header_decode(struct rd r, struct header *ret_header)
{
    struct header h;
    (void)rd_bytes(&r, EI_NIDENT + 2);
    h.machine = (uint16_t)rd_native(&r, 2);
    (void)rd_bytes(&r, 4 + 8);
    h.phoff = rd_native(&r, 8);
    h.shoff = rd_native(&r, 8);
    (void)rd_bytes(&r, 4 + 2);
    h.phentsize = (uint16_t)rd_native(&r, 2);
    h.phnum = (uint16_t)rd_native(&r, 2);
    h.shentsize = (uint16_t)rd_native(&r, 2);
    h.shnum = (uint16_t)rd_native(&r, 2);
    h.shstrndx = (uint16_t)rd_native(&r, 2);
    *ret_header = h;
    return rd_ok(&r);
}

/* Is it for the machine that this code runs on? Only 64-bit files are read. */
static bool is_native(struct rd r)
{
#if defined(__x86_64__)
    const uint16_t machine = EM_X86_64;
#elif defined(__aarch64__)
    const uint16_t machine = EM_AARCH64;
#elif defined(__riscv)
    const uint16_t machine = EM_RISCV;
#else
    const uint16_t machine = EM_NONE;
#endif
    const uint8_t order = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
    struct header h;
    struct rd ident = r;
    (void)rd_bytes(&ident, EI_CLASS);
    return rd_u8(&ident) == ELFCLASS64 && rd_u8(&ident) == order && header_decode(r, &h) &&
           (machine == EM_NONE || h.machine == machine);
}

static void interpreter_read(int fd, uint64_t offset, uint64_t size, struct elf_facts *facts)
{
    char text[ELF_INTERPRETER_MAX];
    struct rd r = file_read(fd, text, size < sizeof text ? size : sizeof text - 1, offset);
    memcpy(facts->interpreter, r.p, r.left);
    facts->interpreter[r.left] = 0;
}

static void segments_inspect(int fd, const struct header *h, struct elf_facts *facts)
{
    uint8_t buf[PHDRS_MAX * PHDR_SIZE];
    facts->is_static = true;
    if (h->phentsize != PHDR_SIZE || h->phnum > PHDRS_MAX)
        return;
    struct rd r = file_read(fd, buf, (size_t)h->phnum * PHDR_SIZE, h->phoff);
    while (rd_ok(&r) && r.left > 0) {
        uint32_t type = (uint32_t)rd_native(&r, 4);
        (void)rd_bytes(&r, 4);
        uint64_t offset = rd_native(&r, 8);
        (void)rd_bytes(&r, 8 + 8);
        uint64_t size = rd_native(&r, 8);
        (void)rd_bytes(&r, 8 + 8);
        if (!rd_ok(&r) || type != PT_INTERP)
            continue;
        facts->is_static = false;
        interpreter_read(fd, offset, size, facts);
    }
}

static bool section_decode(struct rd *r, struct section *ret_section)
{
    struct section s;
    s.name = (uint32_t)rd_native(r, 4);
    (void)rd_bytes(r, 4 + 8 + 8);
    s.offset = rd_native(r, 8);
    s.size = rd_native(r, 8);
    (void)rd_bytes(r, 4 + 4 + 8 + 8);
    *ret_section = s;
    return rd_ok(r);
}

static bool is_go_name(struct rd names, uint32_t at)
{
    (void)rd_bytes(&names, at);
    struct str rest = {(const char *)names.p, rd_ok(&names) ? names.left : 0};
    static const struct str go[] = {{".note.go.buildid", 17}, {".go.buildinfo", 14}};
    return str_starts(rest, go[0]) || str_starts(rest, go[1]); /* with the NUL that ends them */
}

static void sections_inspect(int fd, const struct header *h, struct elf_facts *facts)
{
    uint8_t buf[SECTIONS_MAX * SECTION_SIZE], names_buf[NAMES_MAX];
    if (h->shentsize != SECTION_SIZE || h->shnum > SECTIONS_MAX || h->shstrndx >= h->shnum)
        return;
    struct rd r = file_read(fd, buf, (size_t)h->shnum * SECTION_SIZE, h->shoff), at = r;
    struct section s;
    (void)rd_bytes(&at, (size_t)h->shstrndx * SECTION_SIZE);
    if (!section_decode(&at, &s))
        return;
    struct rd names = file_read(fd, names_buf, s.size < NAMES_MAX ? s.size : NAMES_MAX, s.offset);
    while (section_decode(&r, &s))
        facts->is_go = facts->is_go || is_go_name(names, s.name);
}

static void script_inspect(struct rd r, struct elf_facts *facts)
{
    (void)rd_bytes(&r, 2);
    while (r.left > 0 && (*r.p == ' ' || *r.p == '\t'))
        (void)rd_u8(&r);
    size_t n = 0;
    while (n < r.left && n < ELF_INTERPRETER_MAX - 1 && r.p[n] > ' ')
        n++;
    facts->is_script = true;
    memcpy(facts->interpreter, r.p, n);
}

static bool is_privileged(int fd, const struct stat *st)
{
    if (st->st_mode & S_ISUID && st->st_uid != geteuid())
        return true;
    if (st->st_mode & S_ISGID && st->st_mode & S_IXGRP && st->st_gid != getegid())
        return true;
    /* Root has them anyway: for it such a file is like any other. */
    return geteuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

static bool is_other_libc(const char *loader)
{
    bool musl = strstr(loader, "/ld-musl-") != NULL;
#ifdef __GLIBC__
    return musl;
#else
    return loader[0] && !musl;
#endif
}

int elf_inspect(const char *path, struct elf_facts *ret_facts)
{
    uint8_t head[ELF_INTERPRETER_MAX];
    struct stat st;
    /* Not to be kept waiting by a FIFO or a device. */
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    struct elf_facts facts = {0};
    if (S_ISREG(st.st_mode)) {
        struct header h;
        struct rd r = file_read(fd, head, sizeof head, 0);
        struct str text = {(const char *)r.p, r.left};
        facts.is_elf = str_starts(text, (struct str){ELFMAG, SELFMAG});
        facts.is_privileged = is_privileged(fd, &st);
        if (str_starts(text, STR("#!")))
            script_inspect(r, &facts);
        facts.is_foreign = facts.is_elf && !is_native(r);
        if (facts.is_elf && !facts.is_foreign && header_decode(r, &h)) {
            segments_inspect(fd, &h, &facts);
            sections_inspect(fd, &h, &facts);
            facts.is_other_libc = is_other_libc(facts.interpreter);
        }
    }
    *ret_facts = facts;
    return 0;
}
