/* Makes families of real processes, each of which waits to be killed. */
#include "launch/proctree.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "test.h"

/* The last process that lives closes its end, and then the test reads the end of the file. */
struct family {
    pid_t main;
    int alive[2];
};

static void member(struct family *f)
{
    char ready = 1;
    (void)!write(f->alive[1], &ready, 1);
    for (;;)
        (void)pause();
}

/* A session leader that has one child (with a child of its own) and one in another group. */
static void family_tree(struct family *f)
{
    (void)setsid();
    if (fork() == 0) {
        if (fork() == 0)
            member(f);
        member(f);
    }
    if (fork() == 0) {
        (void)setpgid(0, 0);
        member(f);
    }
    member(f);
}

/* The main process ends, its child stays in the session. */
static void family_orphan(struct family *f)
{
    (void)setsid();
    if (fork() > 0)
        _exit(0);
    member(f);
}

static struct family family_start(void (*grow)(struct family *), size_t members)
{
    struct family f;
    char ready;
    CHECK_INT(pipe(f.alive), 0);
    f.main = fork();
    if (f.main == 0)
        grow(&f);
    (void)close(f.alive[1]);
    for (size_t i = 0; i < members; i++)
        CHECK_INT(read(f.alive[0], &ready, 1), 1);
    return f;
}

/* Ends all of them, as the caller of the module would. */
static void family_end(struct family *f, const char *mark)
{
    struct proctree_root root = {.pid = f->main, .mark = mark};
    struct proctree t;
    char byte;
    size_t found = 1;
    for (int i = 0; i < 100 && found > 0; i++) {
        CHECK_INT(proctree_read(&root, 1, &t), 0);
        found = t.count;
        (void)proctree_kill(&t, 0, SIGKILL);
        proctree_done(&t);
    }
    struct pollfd p = {.fd = f->alive[0], .events = POLLIN};
    CHECK_INT(poll(&p, 1, 10000), 1);
    CHECK_INT(read(f->alive[0], &byte, 1), 0);
    (void)close(f->alive[0]);
    (void)waitpid(f->main, NULL, 0);
}

static size_t members(const struct family *f, const char *mark)
{
    struct proctree_root root = {.pid = f->main, .mark = mark};
    struct proctree t;
    CHECK_INT(proctree_read(&root, 1, &t), 0);
    size_t count = proctree_count(&t, 0);
    proctree_done(&t);
    return count;
}

TEST("children and their children belong to the worker, in whatever process group")
{
    struct family f = family_start(family_tree, 4);
    CHECK_INT(members(&f, NULL), 4);
    family_end(&f, NULL);
}

TEST("several workers are told apart in one pass")
{
    struct family a = family_start(family_tree, 4), b = family_start(family_tree, 4);
    struct proctree_root roots[] = {{.pid = a.main}, {.pid = b.main}};
    struct proctree t;
    CHECK_INT(proctree_read(roots, 2, &t), 0);
    CHECK_INT(t.count, 8);
    CHECK_INT(proctree_count(&t, 0), 4);
    CHECK_INT(proctree_count(&t, 1), 4);
    for (size_t i = 0; i < t.count; i++)
        CHECK_INT(t.list[i].root, i / 4);
    proctree_done(&t);
    family_end(&a, NULL);
    CHECK_INT(members(&b, NULL), 4);
    family_end(&b, NULL);
}

TEST("a child whose parent has gone is known by its session")
{
    struct family f = family_start(family_orphan, 1);
    CHECK_INT(waitpid(f.main, NULL, 0), f.main);
    CHECK_INT(members(&f, NULL), 1);
    family_end(&f, NULL);
}

TEST("a daemon that has run away from everything is known by its mark")
{
    char mark[64];
    /* An environment as /proc shows it is that of an exec. */
    (void)snprintf(mark, sizeof mark, "BERTH_TEST_MARK=%d", getpid());
    CHECK_INT(putenv(mark), 0);
    struct family f = {0};
    char ready;
    CHECK_INT(pipe(f.alive), 0);
    f.main = fork();
    if (f.main == 0) {
        (void)setsid();
        if (fork() > 0)
            _exit(0);
        (void)setsid();
        (void)dup2(f.alive[1], STDOUT_FILENO);
        (void)close(f.alive[0]);
        (void)close(f.alive[1]);
        (void)execl("/bin/sh", "sh", "-c", "printf x; while :; do sleep 1000 & wait; done", NULL);
        _exit(1);
    }
    (void)close(f.alive[1]);
    CHECK_INT(read(f.alive[0], &ready, 1), 1);
    CHECK_INT(waitpid(f.main, NULL, 0), f.main);
    CHECK_INT(members(&f, NULL), 0);
    CHECK_INT(members(&f, "BERTH_TEST_MARK=another"), 0);
    CHECK(members(&f, mark) >= 1);
    family_end(&f, mark);
    CHECK_INT(unsetenv("BERTH_TEST_MARK"), 0);
}

TEST("resident memory is the sum, and shared memory counts once in the other")
{
    struct family f = family_start(family_tree, 4);
    struct proctree_root root = {.pid = f.main};
    struct proctree t;
    CHECK_INT(proctree_read(&root, 1, &t), 0);
    uint64_t rss = proctree_rss(&t, 0), pss = proctree_pss(&t, 0);
    CHECK(pss > 0);
    CHECK(rss > pss);
    CHECK_INT(proctree_rss(&t, 1), 0);
    proctree_done(&t);
    family_end(&f, NULL);
}

TEST("a process number that now is another process's is not signalled")
{
    struct family f = family_start(family_tree, 4);
    struct proctree_root root = {.pid = f.main};
    struct proctree t;
    CHECK_INT(proctree_read(&root, 1, &t), 0);
    for (size_t i = 0; i < t.count; i++)
        t.list[i].start_time++;
    CHECK_INT(proctree_kill(&t, 0, SIGKILL), 0);
    proctree_done(&t);
    CHECK_INT(members(&f, NULL), 4);
    family_end(&f, NULL);
}
