/* Uses a folder that looks like a cgroup tree for what this machine may not have, and the real tree
 * for what it has. */
#include "launch/cgroup.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "launch/spawn.h"
#include "test.h"

struct tree {
    char path[64];
    struct cgroup_place place;
};

static void file_make(const struct tree *t, const char *file, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s%s", t->path, file);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
}

static const char *file_text(const struct tree *t, const char *file)
{
    static char text[256];
    char path[256];
    (void)snprintf(path, sizeof path, "%s%s", t->path, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    (void)close(fd);
    return text;
}

static void folder_make(const struct tree *t, const char *folder)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s%s", t->path, folder);
    CHECK_INT(mkdir(path, 0700), 0);
}

/* A group /unit with one worker's group, as the kernel would have filled them. The kernel would
 * also add to what is written to the list of controllers; here the last one written stays. */
static struct tree tree_make(const char *procs)
{
    struct tree t = {.path = "/tmp/berth-cgroup-XXXXXX"};
    CHECK(mkdtemp(t.path) != NULL);
    t.place.own = "/unit";
    folder_make(&t, "/unit");
    folder_make(&t, "/unit/daemon");
    folder_make(&t, "/unit/worker-a");
    file_make(&t, "/unit/cgroup.procs", procs);
    file_make(&t, "/unit/cgroup.subtree_control", "cpu memory pids foo\n");
    file_make(&t, "/unit/daemon/cgroup.procs", "");
    file_make(&t, "/unit/worker-a/memory.max", "");
    file_make(&t, "/unit/worker-a/cpu.max", "");
    file_make(&t, "/unit/worker-a/pids.max", "");
    file_make(&t, "/unit/worker-a/memory.current", "1048576\n");
    file_make(&t, "/unit/worker-a/memory.events", "low 0\noom 3\noom_kill 2\n");
    file_make(&t, "/unit/worker-a/cgroup.procs", "12\n345\n");
    file_make(&t, "/unit/worker-a/cgroup.kill", "");
    return t;
}

static int entry_remove(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void tree_done(struct tree *t)
{
    CHECK_INT(nftw(t->path, entry_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static int tree_open(struct tree *t, struct cgroup *c, char *reason)
{
    t->place.mount = t->path;
    return cgroup_open(&t->place, NULL, 0, c, reason);
}

TEST("berthd moves out of the way, and limits go to the worker's files")
{
    char own[16], reason[CGROUP_REASON_MAX] = "";
    (void)snprintf(own, sizeof own, "%d\n", getpid());
    struct tree t = tree_make(own);
    struct cgroup c;
    CHECK_INT(tree_open(&t, &c, reason), 0);
    own[strlen(own) - 1] = 0;
    CHECK_TEXT(file_text(&t, "/unit/daemon/cgroup.procs"), own);
    /* A file in a folder keeps what was written last over the first letters of the rest. */
    CHECK(strncmp(file_text(&t, "/unit/cgroup.subtree_control"), "+pids", 5) == 0);
    CHECK_INT(c.controllers, CGROUP_PIDS);
    c.controllers = CGROUP_MEMORY | CGROUP_CPU | CGROUP_PIDS;
    struct cgroup_limits limits = {.memory_max = 1 << 20, .cpu_percent = 150, .tasks_max = 40};
    int fd = -EBADF;
    CHECK_INT(cgroup_make(&c, "a", &limits, &fd, reason), 0);
    CHECK_TEXT(file_text(&t, "/unit/worker-a/memory.max"), "1048576");
    CHECK_TEXT(file_text(&t, "/unit/worker-a/cpu.max"), "150000 100000");
    CHECK_TEXT(file_text(&t, "/unit/worker-a/pids.max"), "40");
    uint64_t number = 0;
    CHECK_INT(cgroup_memory(fd, &number), 0);
    CHECK_INT(number, 1 << 20);
    CHECK_INT(cgroup_oom_kills(fd, &number), 0);
    CHECK_INT(number, 2);
    pid_t *pids = NULL;
    size_t count = 0;
    CHECK_INT(cgroup_procs(fd, &pids, &count), 0);
    CHECK_INT(count, 2);
    if (count == 2)
        CHECK_INT(pids[1], 345);
    free(pids);
    CHECK_INT(cgroup_kill(fd), 0);
    CHECK_TEXT(file_text(&t, "/unit/worker-a/cgroup.kill"), "1");
    (void)close(fd);
    cgroup_close(&c);
    tree_done(&t);
}

TEST("a successor in the group `daemon` finds the workers' groups beside it")
{
    char reason[CGROUP_REASON_MAX];
    struct tree t = tree_make("");
    struct cgroup c;
    t.place.own = "/unit/daemon";
    CHECK_INT(tree_open(&t, &c, reason), 0);
    CHECK_TEXT(c.path + strlen(t.path), "/unit");
    cgroup_close(&c);
    tree_done(&t);
}

TEST("a group with others' processes is left alone")
{
    char reason[CGROUP_REASON_MAX], want[CGROUP_REASON_MAX];
    struct tree t = tree_make("1\n");
    struct cgroup c;
    CHECK_INT(tree_open(&t, &c, reason), -EBUSY);
    (void)snprintf(want, sizeof want,
                   "the cgroup %s/unit has other processes, too: for groups of its own berthd must "
                   "run as a service with Delegate=yes",
                   t.path);
    CHECK_TEXT(reason, want);
    CHECK_TEXT(file_text(&t, "/unit/daemon/cgroup.procs"), "");
    tree_done(&t);
}

TEST("a limit without its controller is refused by its name")
{
    char reason[CGROUP_REASON_MAX];
    struct tree t = tree_make("");
    struct cgroup c;
    int fd = -EBADF;
    CHECK_INT(tree_open(&t, &c, reason), 0);
    c.controllers = CGROUP_PIDS;
    struct cgroup_limits limits = {.memory_max = 1, .tasks_max = 1};
    CHECK_INT(cgroup_make(&c, "a", &limits, &fd, reason), -ENOTSUP);
    CHECK_TEXT(reason, "memory_max needs a cgroup v2 memory controller: not available here");
    limits.memory_max = 0;
    CHECK_INT(cgroup_check(&c, &limits, reason), 0);
    CHECK_INT(cgroup_make(&c, "../a", &limits, &fd, reason), -EINVAL);
    cgroup_close(&c);
    tree_done(&t);
}

TEST("a place that is no cgroup is refused with its path")
{
    char reason[CGROUP_REASON_MAX];
    struct cgroup c;
    struct cgroup_place place = {.mount = "/nonexistent", .own = "/x"};
    CHECK_INT(cgroup_open(&place, NULL, 0, &c, reason), -ENOENT);
    CHECK_TEXT(reason, "the cgroup /nonexistent/x cannot be used: No such file or directory");
}

TEST("in the real tree a worker starts in its group, and is killed with all its children")
{
    char reason[CGROUP_REASON_MAX], why[SPAWN_REASON_MAX];
    struct cgroup c = {.fd = -EBADF};
    int fd = -EBADF, output[2];
    /* Only where this process's own group is the root: else it would move itself. */
    if (geteuid() != 0 ||
        cgroup_open(&(struct cgroup_place){.own = "/"}, NULL, 0, &c, reason) < 0) {
        (void)printf("# skipped: no cgroup v2 to write to\n");
        return;
    }
    char name[32];
    (void)snprintf(name, sizeof name, "test-%d", getpid());
    CHECK_INT(cgroup_make(&c, name, &(struct cgroup_limits){0}, &fd, reason), 0);
    CHECK_INT(pipe2(output, O_CLOEXEC), 0);
    const char *argv[] = {"/bin/sh", "-c", "sleep 1000 & echo; wait", NULL};
    struct spawn s = spawn_make((char *const *)argv);
    struct spawned made = {.pidfd = -EBADF};
    s.cgroup_fd = fd;
    s.stdout_fd = output[1];
    CHECK_INT(spawn_start(&s, &made, why), 0);
    char byte;
    CHECK_INT(read(output[0], &byte, 1), 1);
    pid_t *pids = NULL;
    size_t count = 0;
    CHECK_INT(cgroup_procs(fd, &pids, &count), 0);
    CHECK_INT(count, 2);
    free(pids);
    CHECK_INT(cgroup_remove(&c, name), -EBUSY);
    CHECK_INT(cgroup_kill(fd), 0);
    CHECK_INT(waitpid(made.pid, NULL, 0), made.pid);
    /* The shell's child is not ours to wait for, but it held the pipe. */
    (void)close(output[1]);
    CHECK_INT(read(output[0], &byte, 1), 0);
    int err = -EBUSY;
    for (int i = 0; i < 1000 && err == -EBUSY; i++) {
        err = cgroup_remove(&c, name);
        if (err == -EBUSY)
            (void)poll(NULL, 0, 5);
    }
    CHECK_INT(err, 0);
    (void)(close(fd) + close(output[0]) + close(made.pidfd));
    (void)rmdir(c.path);
    cgroup_close(&c);
}
