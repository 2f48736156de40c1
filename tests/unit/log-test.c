#include "base/log.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX 4096

/* Standard error goes into a memory file between these two. */
static int capture_start(int *ret_saved)
{
    int fd = memfd_create("log", MFD_CLOEXEC);
    *ret_saved = dup(STDERR_FILENO);
    CHECK(dup2(fd, STDERR_FILENO) >= 0);
    return fd;
}

static void capture_end(int fd, int saved, char text[TEXT_MAX])
{
    CHECK(dup2(saved, STDERR_FILENO) >= 0);
    ssize_t n = pread(fd, text, TEXT_MAX - 1, 0);
    text[n > 0 ? n : 0] = 0;
    (void)close(saved);
    (void)close(fd);
}

static int lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

TEST("control characters cannot forge a line")
{
    char text[TEXT_MAX];
    int saved, fd = capture_start(&saved);
    log_init("unit", LOG_INFO);
    log_info("refused host=%s", "a\nerror forged\r\x1b[2J\x7f\tb");
    capture_end(fd, saved, text);
    CHECK_INT(lines(text), 1);
    CHECK(strstr(text, " unit info: refused host=a?error forged??[2J??b\n") != NULL);
}

TEST("a line begins with the time in UTC, the name and the level")
{
    char text[TEXT_MAX];
    int saved, fd = capture_start(&saved);
    log_init("unit", LOG_INFO);
    log_warn("paused n=%d", 3);
    capture_end(fd, saved, text);
    CHECK_INT(strlen(text), strlen("2026-01-01T00:00:00Z unit warn: paused n=3\n"));
    CHECK_INT(text[10], 'T');
    CHECK_TEXT(text + 19, "Z unit warn: paused n=3\n");
}

TEST("the journal gets the priority in front, and only the journal")
{
    char text[TEXT_MAX], stream[64];
    struct stat st;
    int saved, fd = capture_start(&saved);
    CHECK_INT(fstat(STDERR_FILENO, &st), 0);
    (void)snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev,
                   (unsigned long long)st.st_ino);
    CHECK_INT(setenv("JOURNAL_STREAM", stream, 1), 0);
    log_init("unit", LOG_DEBUG);
    log_error("one");
    log_warn("two a=%d", 1);
    log_info("three");
    log_debug("four");
    CHECK_INT(setenv("JOURNAL_STREAM", "1:2", 1), 0);
    log_init("unit", LOG_INFO);
    log_info("five");
    CHECK_INT(unsetenv("JOURNAL_STREAM"), 0);
    log_init("unit", LOG_INFO);
    capture_end(fd, saved, text);
    static const char want[] = "<3>unit: one\n<4>unit: two a=1\n<6>unit: three\n<7>unit: four\n";
    CHECK(strncmp(text, want, sizeof want - 1) == 0);
    CHECK(strstr(text, "Z unit info: five\n") != NULL);
}

TEST("a line below the level is not written")
{
    char text[TEXT_MAX];
    int saved, fd = capture_start(&saved);
    log_init("unit", LOG_WARN);
    log_debug("one");
    log_info("two");
    log_warn("three");
    log_error("four");
    capture_end(fd, saved, text);
    CHECK_INT(lines(text), 2);
    CHECK(strstr(text, "three") != NULL);
    CHECK(strstr(text, "four") != NULL);
    CHECK_INT(log_level(), LOG_WARN);
}

TEST("a line that is too long is cut and still ends")
{
    char text[TEXT_MAX], word[3000];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = 0;
    int saved, fd = capture_start(&saved);
    log_init("unit", LOG_INFO);
    log_info("host=%s", word);
    log_info("next");
    capture_end(fd, saved, text);
    CHECK_INT(lines(text), 2);
    CHECK(strchr(text, '\n') - text < 1024);
    CHECK(strstr(text, "info: next\n") != NULL);
}

TEST("a log line leaves errno as it was")
{
    char text[TEXT_MAX];
    int saved, fd = capture_start(&saved);
    (void)close(STDERR_FILENO);
    errno = ENOSPC;
    log_error("nobody reads this");
    CHECK_INT(errno, ENOSPC);
    capture_end(fd, saved, text);
    CHECK_TEXT(text, "");
}

TEST("levels are known by their words only")
{
    CHECK_INT(log_level_parse("error"), LOG_ERROR);
    CHECK_INT(log_level_parse("warn"), LOG_WARN);
    CHECK_INT(log_level_parse("info"), LOG_INFO);
    CHECK_INT(log_level_parse("debug"), LOG_DEBUG);
    CHECK_INT(log_level_parse("Debug"), -1);
    CHECK_INT(log_level_parse(""), -1);
    CHECK_INT(log_level_parse("3"), -1);
}
