#include "loop/acceptor.h"
#include "test.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define FDS_MAX 64

struct rig {
    struct loop loop;
    struct acceptor acceptor;
    struct timer stop, relief;
    int taken, flags, refused;
    bool ends; /* at the first connection */
    int eaten[FDS_MAX];
    size_t eaten_count;
};

static void accepted_consume(struct acceptor *a, int fd)
{
    struct rig *r = container_of(a, struct rig, acceptor);
    r->taken++;
    r->flags = fcntl(fd, F_GETFL) | (fcntl(fd, F_GETFD) & FD_CLOEXEC);
    (void)close(fd);
    if (r->ends)
        loop_stop(&r->loop);
}

static bool nothing_to_free(struct acceptor *a)
{
    container_of(a, struct rig, acceptor)->refused++;
    return false;
}

static bool one_freed(struct acceptor *a)
{
    struct rig *r = container_of(a, struct rig, acceptor);
    r->refused++;
    (void)close(r->eaten[--r->eaten_count]);
    return true;
}

static void stop_fire(struct timer *t)
{
    loop_stop(&container_of(t, struct rig, stop)->loop);
}

static void relief_fire(struct timer *t)
{
    struct rig *r = container_of(t, struct rig, relief);
    while (r->eaten_count > 0)
        (void)close(r->eaten[--r->eaten_count]);
}

/* Listens under a name that the kernel chooses. */
static void rig_init(struct rig *r, struct sockaddr_un *ret_at, socklen_t *ret_len)
{
    *r = (struct rig){.stop.fire = stop_fire, .relief.fire = relief_fire};
    *ret_at = (struct sockaddr_un){.sun_family = AF_UNIX};
    *ret_len = sizeof *ret_at;
    CHECK_INT(loop_init(&r->loop), 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(fd, (struct sockaddr *)ret_at, sizeof(sa_family_t)), 0);
    CHECK_INT(listen(fd, 8), 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)ret_at, ret_len), 0);
    acceptor_init(&r->acceptor, &r->loop, accepted_consume);
    CHECK_INT(acceptor_open_consume(&r->acceptor, fd), 0);
}

static void rig_done(struct rig *r)
{
    acceptor_close(&r->acceptor);
    relief_fire(&r->relief);
    loop_done(&r->loop);
}

static int client_new(const struct sockaddr_un *at, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(fd, (const struct sockaddr *)at, len), 0);
    return fd;
}

static void descriptors_eat(struct rig *r)
{
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &(struct rlimit){FDS_MAX / 2, FDS_MAX}), 0);
    for (int fd; r->eaten_count < FDS_MAX && (fd = dup(STDERR_FILENO)) >= 0;)
        r->eaten[r->eaten_count++] = fd;
    CHECK_INT(errno, EMFILE);
}

static void run_for(struct rig *r, uint64_t for_ms)
{
    r->loop.stopped = false;
    loop_timer(&r->loop, &r->stop, for_ms);
    loop_run(&r->loop);
    loop_untimer(&r->stop);
}

TEST("every connection that waits is taken, with the flags that were asked for")
{
    struct rig r;
    struct sockaddr_un at;
    socklen_t len;
    rig_init(&r, &at, &len);
    CLEANUP_FD int first = client_new(&at, len);
    CLEANUP_FD int second = client_new(&at, len);
    run_for(&r, 20);
    CHECK_INT(r.taken, 2);
    CHECK_INT(r.flags & (O_NONBLOCK | FD_CLOEXEC), FD_CLOEXEC);
    r.acceptor.flags = SOCK_NONBLOCK;
    CLEANUP_FD int third = client_new(&at, len);
    run_for(&r, 20);
    CHECK_INT(r.taken, 3);
    CHECK_INT(r.flags & (O_NONBLOCK | FD_CLOEXEC), O_NONBLOCK | FD_CLOEXEC);
    rig_done(&r);
}

TEST("without a descriptor to spare it rests, and goes on by itself")
{
    struct rig r;
    struct sockaddr_un at;
    socklen_t len;
    rig_init(&r, &at, &len);
    r.acceptor.make_room = nothing_to_free;
    r.ends = true;
    CLEANUP_FD int client = client_new(&at, len);
    descriptors_eat(&r);
    run_for(&r, 150);
    CHECK_INT(r.taken, 0);
    CHECK(r.refused == 1 || r.refused == 2);
    loop_timer(&r.loop, &r.relief, 0);
    run_for(&r, 5000);
    CHECK_INT(r.taken, 1);
    rig_done(&r);
}

TEST("where room can be made it does not rest")
{
    struct rig r;
    struct sockaddr_un at;
    socklen_t len;
    rig_init(&r, &at, &len);
    r.acceptor.make_room = one_freed;
    r.ends = true;
    CLEANUP_FD int client = client_new(&at, len);
    descriptors_eat(&r);
    run_for(&r, 5000);
    CHECK_INT(r.taken, 1);
    CHECK_INT(r.refused, 1);
    CHECK_INT(r.acceptor.rest.at_ms, 0);
    rig_done(&r);
}

TEST("closed while it rests, it does not come back")
{
    struct rig r;
    struct sockaddr_un at;
    socklen_t len;
    rig_init(&r, &at, &len);
    CLEANUP_FD int client = client_new(&at, len);
    descriptors_eat(&r);
    run_for(&r, 20);
    CHECK(r.acceptor.rest.at_ms != 0);
    acceptor_close(&r.acceptor);
    CHECK_INT(r.acceptor.fd, -EBADF);
    relief_fire(&r.relief);
    run_for(&r, 150);
    CHECK_INT(r.taken, 0);
    rig_done(&r);
}

TEST("it does not spin on a socket that somebody has shut down, and frees nothing for it")
{
    struct rig r;
    struct sockaddr_un at;
    socklen_t len;
    rig_init(&r, &at, &len);
    r.acceptor.make_room = nothing_to_free;
    CHECK_INT(shutdown(r.acceptor.fd, SHUT_RDWR), 0);
    clock_t before = clock();
    run_for(&r, 150);
    CHECK((clock() - before) * 1000 / CLOCKS_PER_SEC < 20);
    CHECK_INT(r.refused, 0);
    rig_done(&r);
}
