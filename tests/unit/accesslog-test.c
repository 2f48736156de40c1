/* Lines of the logs: their form, what happens when there is no room. */
#include <fcntl.h>
#include <stdlib.h>

#include "share/accesslog.h"
#include "test.h"

static size_t read_some(int fd, char *buf, size_t size)
{
    ssize_t n = read(fd, buf, size - 1);
    buf[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

TEST("a line has its time in UTC before it")
{
    int pair[2];
    struct logbuf b = {0};
    char buf[256];
    CHECK_INT(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
    struct logfile *f = logfile_new_consume(pair[1]);
    CHECK(logbuf_line(&b, "reason=%s", "NoRoute"));
    CHECK(logbuf_flush(&b, f));
    (void)read_some(pair[0], buf, sizeof buf);
    CHECK(strlen(buf) > 24 && buf[4] == '-' && buf[10] == 'T' && buf[19] == '.' && buf[23] == 'Z');
    CHECK_TEXT(buf + 24, " reason=NoRoute\n");
    (void)fd_close(pair[0]);
    logfile_unref(f);
    free(b.text);
}

TEST("a file that takes nothing more loses what comes last, and goes on with whole lines")
{
    static char text[1 << 20];
    int pair[2], lost = 0, whole = 0;
    struct logbuf b = {0};
    CHECK_INT(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK(fcntl(pair[1], F_SETPIPE_SZ, 4096) >= 4096);
    struct logfile *f = logfile_new_consume(pair[1]);
    for (int i = 0; i < 5000; i++) {
        lost += !logbuf_line(&b, "line=%d", i);
        (void)logbuf_flush(&b, f);
    }
    CHECK(lost > 0 && lost < 5000);
    size_t used = 0;
    for (bool all = false; !all;) {
        used += read_some(pair[0], text + used, sizeof text - used);
        all = logbuf_flush(&b, f);
    }
    used += read_some(pair[0], text + used, sizeof text - used);
    CHECK(logbuf_line(&b, "line=last"));
    CHECK(logbuf_flush(&b, f));
    used += read_some(pair[0], text + used, sizeof text - used);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        whole += line[10] == 'T' && strstr(line, " line=") == line + 24;
    }
    CHECK_INT(whole, 5000 - lost + 1);
    (void)fd_close(pair[0]);
    logfile_unref(f);
    free(b.text);
}

TEST("without a file lines go nowhere, and a line that is too long is cut")
{
    struct logbuf b = {0};
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    CHECK(logbuf_line(&b, "%s", text));
    CHECK(b.used <= 1024 && b.text[b.used - 1] == '\n');
    CHECK(logbuf_flush(&b, NULL));
    CHECK_INT(b.used, 0);
    free(b.text);
}

TEST("bytes of strangers cannot make a line of their own")
{
    char buf[16];
    CHECK_TEXT(logbuf_word(STR("a b\n\"\x7f\xff"), buf, sizeof buf), "a?b????");
    CHECK_TEXT(logbuf_word(STR(""), buf, sizeof buf), "-");
    CHECK_TEXT(logbuf_word(STR("0123456789abcdefgh"), buf, sizeof buf), "0123456789abcde");
}
