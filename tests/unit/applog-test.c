#include "base/clock.h"
#include "base/log.h"
#include "berthd/applog.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define TEXT_MAX  (2 << 20)
#define LIMIT_MS  10000
#define STAMP_LEN 25 /* with the blank behind it */

/* A log folder of its own, and a loop that runs until the file says what is expected. */
struct rig {
    struct loop loop;
    struct applogs logs;
    char folder[64];
    struct timer look;
    const char *file, *want;
    uint64_t until_ms;
    bool seen;
};

static char text[TEXT_MAX];

static const char *file_text(const struct rig *r, const char *file)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", r->folder, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    (void)fd_close(fd);
    text[n > 0 ? n : 0] = 0;
    return n < 0 ? "(none)" : text;
}

static void look_fired(struct timer *t)
{
    struct rig *r = container_of(t, struct rig, look);
    r->seen = strstr(file_text(r, r->file), r->want) != NULL;
    if (r->seen || clock_now_ms() > r->until_ms)
        loop_stop(&r->loop);
    else
        loop_timer(&r->loop, t, 1);
}

static void run_until(struct rig *r, const char *file, const char *want)
{
    r->file = file;
    r->want = want;
    r->until_ms = clock_now_ms() + LIMIT_MS;
    r->loop.stopped = false;
    loop_timer(&r->loop, &r->look, 0);
    loop_run(&r->loop);
    if (!r->seen)
        CHECK_TEXT(file_text(r, file), want);
}

static void rig_in(struct rig *r, const char *folder)
{
    *r = (struct rig){.look.fire = look_fired};
    (void)snprintf(r->folder, sizeof r->folder, "%s", folder);
    CHECK_INT(setenv("BERTH_LOG_DIR", r->folder, 1), 0);
    CHECK_INT(loop_init(&r->loop), 0);
    applogs_init(&r->logs, &r->loop);
    log_init("unit", LOG_ERROR);
}

static void rig_init(struct rig *r)
{
    char folder[] = "/tmp/applogXXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    rig_in(r, folder);
}

static int remove_files(const char *folder)
{
    char path[512];
    int count = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_type == DT_DIR)
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        CHECK_INT(unlink(path), 0);
        count++;
    }
    if (d)
        (void)closedir(d);
    return count;
}

/* Returns how many files there were. */
static int rig_done(struct rig *r)
{
    applogs_done(&r->logs);
    loop_done(&r->loop);
    int count = remove_files(r->folder);
    CHECK_INT(rmdir(r->folder), 0);
    return count;
}

static struct applog *log_make(struct rig *r, const char *name, struct applog_limits limits)
{
    struct applog *l = NULL;
    CHECK_INT(applog_open(&r->logs, name, geteuid(), limits, &l), 0);
    return l;
}

/* The writing end of an attached pipe. */
static int attach(struct applog *l, unsigned worker)
{
    int ends[2];
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    CHECK_INT(applog_attach_worker_consume(l, ends[0], worker), 0);
    return ends[1];
}

static void say(int fd, const char *words)
{
    CHECK_INT(write(fd, words, strlen(words)), strlen(words));
}

TEST("a line gets the time and the number of its worker in front")
{
    struct rig r;
    rig_init(&r);
    int fd = attach(log_make(&r, "shop", (struct applog_limits){0}), 7);
    say(fd, "hello\tworld \xff\n");
    run_until(&r, "shop.log", "\n");
    CHECK_TEXT(text + STAMP_LEN, "7 hello\tworld \xff\n");
    CHECK_INT(text[10], 'T');
    CHECK_INT(text[19], '.');
    CHECK_INT(text[23], 'Z');
    (void)close(fd);
    CHECK_INT(rig_done(&r), 1);
}

TEST("a part of a line waits for its end, and for the end of the worker")
{
    struct rig r;
    rig_init(&r);
    struct applog *l = log_make(&r, "shop", (struct applog_limits){0});
    int one = attach(l, 1), two = attach(l, 2);
    say(one, "first ");
    say(two, "whole\n");
    run_until(&r, "shop.log", "2 whole\n");
    CHECK(strstr(text, "first") == NULL);
    say(one, "half\nrest");
    run_until(&r, "shop.log", "1 first half\n");
    CHECK(strstr(text, "rest") == NULL);
    (void)close(one);
    run_until(&r, "shop.log", "1 rest\n");
    (void)close(two);
    (void)rig_done(&r);
}

TEST("a line without end becomes lines of 4 KiB, and one of exactly that length stays one")
{
    struct rig r;
    rig_init(&r);
    int fd = attach(log_make(&r, "shop", (struct applog_limits){0}), 1);
    char words[2 * APPLOG_LINE_MAX + 3];
    memset(words, 'x', sizeof words);
    words[APPLOG_LINE_MAX] = '\n';
    memcpy(words + sizeof words - 2, "y", 2);
    say(fd, words);
    run_until(&r, "shop.log", "xxx\n");
    (void)close(fd);
    run_until(&r, "shop.log", " y\n");
    int lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    CHECK_INT(lines, 3);
    (void)rig_done(&r);
}

TEST("what a worker wrote last is written when it is detached or the log is closed")
{
    struct rig r;
    rig_init(&r);
    struct applog *l = log_make(&r, "shop", (struct applog_limits){0});
    int one = attach(l, 1), two = attach(l, 2);
    say(one, "one's last");
    say(two, "two's last");
    applog_detach_worker(l, 1);
    CHECK_TEXT(file_text(&r, "shop.log") + STAMP_LEN, "1 one's last\n");
    applog_close(l);
    CHECK(strstr(file_text(&r, "shop.log"), "2 two's last\n") != NULL);
    CHECK(applog_find(&r.logs, "shop") == NULL);
    (void)close(one);
    (void)close(two);
    (void)rig_done(&r);
}

TEST("a FIFO whose writer is still to come is waited for")
{
    struct rig r;
    char path[128];
    rig_init(&r);
    struct applog *l = log_make(&r, "shop", (struct applog_limits){0});
    (void)snprintf(path, sizeof path, "%s/fifo", r.folder);
    CHECK_INT(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    CHECK_INT(applog_attach_worker_consume(l, fd, 1), 0);
    applog_note(l, "started");
    run_until(&r, "shop.log", "- started\n");
    int writer = open(path, O_RDWR | O_CLOEXEC);
    say(writer, "hello\n");
    run_until(&r, "shop.log", "1 hello\n");
    (void)close(writer);
    (void)rig_done(&r);
}

TEST("files rotate by size and the oldest goes")
{
    struct rig r;
    rig_init(&r);
    struct applog *l = log_make(&r, "shop", (struct applog_limits){.size = 5000, .files = 3});
    char words[1000];
    memset(words, 'x', sizeof words - 1);
    words[sizeof words - 1] = 0;
    for (char c = 'a'; c <= 'z'; c++) {
        words[0] = c;
        applog_note(l, words);
    }
    CHECK(strlen(file_text(&r, "shop.log")) <= 5000);
    CHECK(strstr(text, "- zxxx") != NULL);
    CHECK(strlen(file_text(&r, "shop.log.1")) <= 5000);
    CHECK(strstr(text, "- uxxx") != NULL);
    CHECK(strstr(file_text(&r, "shop.log.2"), "- txxx") != NULL);
    CHECK_TEXT(file_text(&r, "shop.log.3"), "(none)");
    int fd = applog_read_fd(l, 1);
    CHECK(fd >= 0);
    CHECK_INT(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    CHECK_INT(read(fd, text, STAMP_LEN), STAMP_LEN);
    (void)fd_close(fd);
    CHECK_INT(applog_read_fd(l, 3), -ENOENT);
    CHECK_INT(rig_done(&r), 3);
}

TEST("a log that was removed or emptied by hand goes on")
{
    struct rig r;
    char path[128];
    rig_init(&r);
    struct applog *l = log_make(&r, "shop", (struct applog_limits){0});
    (void)snprintf(path, sizeof path, "%s/shop.log", r.folder);
    applog_note(l, "one");
    CHECK_INT(unlink(path), 0);
    applog_note(l, "two");
    CHECK_TEXT(file_text(&r, "shop.log") + STAMP_LEN, "- two\n");
    CHECK_INT(truncate(path, 0), 0);
    applog_note(l, "three");
    CHECK_TEXT(file_text(&r, "shop.log") + STAMP_LEN, "- three\n");
    (void)rig_done(&r);
}

TEST("no name leaves the folder, and no two names share a file")
{
    static const char *const names[][2] = {{"../x", "%2E.%2Fx.log"},     {"..", "%2E..log"},
                                           {".hidden", "%2Ehidden.log"}, {"a/b", "a%2Fb.log"},
                                           {"a%2Fb", "a%252Fb.log"},     {"a b\n", "a%20b%0A.log"}};
    struct rig r;
    rig_init(&r);
    struct applog *l = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        applog_note(log_make(&r, names[i][0], (struct applog_limits){0}), names[i][0]);
        CHECK_INT(strlen(file_text(&r, names[i][1])), STAMP_LEN + 3 + strlen(names[i][0]));
    }
    CHECK_INT(applog_open(&r.logs, "", 0, (struct applog_limits){0}, &l), -EINVAL);
    char longest[400];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    CHECK_INT(applog_open(&r.logs, longest, 0, (struct applog_limits){0}, &l), -ENAMETOOLONG);
    CHECK_INT(rig_done(&r), 6);
}

TEST("a link in the place of a log is not followed")
{
    struct rig r;
    char path[128];
    rig_init(&r);
    struct applog *l = NULL;
    (void)snprintf(path, sizeof path, "%s/shop.log", r.folder);
    CHECK_INT(symlink("elsewhere", path), 0);
    CHECK_INT(applog_open(&r.logs, "shop", geteuid(), (struct applog_limits){0}, &l), -ELOOP);
    CHECK_INT(rig_done(&r), 1);
}

TEST("the log of another user's application of the same name is left alone")
{
    struct rig r;
    if (geteuid() != 0)
        return;
    rig_init(&r);
    struct applog *l = NULL;
    CHECK_INT(applog_open(&r.logs, "shop", 12345, (struct applog_limits){0}, &l), 0);
    applog_note(l, "secret");
    applog_close(l);
    CHECK_INT(applog_open(&r.logs, "shop", 12346, (struct applog_limits){0}, &l), 0);
    applog_note(l, "other");
    CHECK_TEXT(file_text(&r, "shop.log") + STAMP_LEN, "- secret\n");
    CHECK_TEXT(file_text(&r, "shop~12346.log") + STAMP_LEN, "- other\n");
    CHECK_INT(applog_owner(l), 12346);
    CHECK_INT(rig_done(&r), 2);
}

TEST("a folder that others may write to is refused")
{
    struct rig r;
    struct applog *l = NULL;
    rig_init(&r);
    CHECK_INT(chmod(r.folder, 0777), 0);
    CHECK_INT(applog_open(&r.logs, "shop", geteuid(), (struct applog_limits){0}, &l), -EPERM);
    (void)rig_done(&r);
}

/* 64 KiB of disk, in a mount namespace that goes with this process. */
static bool small_disk(const char *path)
{
    return geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", path, "tmpfs", 0, "size=65536,mode=0700") == 0;
}

TEST("a full disk costs lines, which are counted and told when there is room again")
{
    struct rig r;
    char folder[] = "/tmp/applogXXXXXX", path[128], words[20000];
    CHECK(mkdtemp(folder) != NULL);
    if (!small_disk(folder)) {
        CHECK_INT(rmdir(folder), 0);
        return;
    }
    rig_in(&r, folder);
    struct applog *l = log_make(&r, "shop", (struct applog_limits){0});
    (void)snprintf(path, sizeof path, "%s/ballast", folder);
    int ballast = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK_INT(ftruncate(ballast, 40960), 0);
    CHECK_INT(fallocate(ballast, 0, 0, 40960), 0);
    memset(words, 'x', sizeof words);
    for (size_t i = 99; i < sizeof words; i += 100)
        words[i] = '\n';
    for (int i = 0; i < 3; i++) {
        int fd = attach(l, 1);
        CHECK_INT(write(fd, words, sizeof words), sizeof words);
        applog_detach_worker(l, 1);
        (void)close(fd);
    }
    size_t kept = strlen(file_text(&r, "shop.log")), lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    CHECK(kept > 0 && text[kept - 1] == '\n');
    CHECK(kept < 3 * sizeof words);
    CHECK_INT(ftruncate(ballast, 0), 0);
    applog_note(l, "room");
    char want[128];
    (void)snprintf(want, sizeof want, " - berth: %zu lines lost here: No space left on device\n",
                   600 - lines);
    CHECK(strstr(file_text(&r, "shop.log"), want) != NULL);
    CHECK(strstr(text, " - room\n") != NULL);
    (void)close(ballast);
    applogs_done(&r.logs);
    loop_done(&r.loop);
    CHECK_INT(umount(folder), 0);
    CHECK_INT(rmdir(folder), 0);
}

TEST("a worker that writes much does not keep the others from their turn")
{
    struct rig r;
    char words[60000];
    rig_init(&r);
    struct applog *l = log_make(&r, "shop", (struct applog_limits){0});
    int loud = attach(l, 1), quiet = attach(l, 2);
    for (size_t i = 0; i < sizeof words; i++)
        words[i] = i % 2 ? '\n' : 'x';
    words[sizeof words - 2] = 'y';
    CHECK_INT(write(loud, words, sizeof words), sizeof words);
    say(quiet, "here\n");
    run_until(&r, "shop.log", "1 y\n");
    CHECK(strstr(text, "2 here\n") != NULL);
    CHECK(strstr(text, "2 here\n") < strstr(text, "1 y\n"));
    (void)close(loud);
    (void)close(quiet);
    CHECK_INT(rig_done(&r), 1);
}
