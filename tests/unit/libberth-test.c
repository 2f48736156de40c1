/* What of libberth needs no berthd: the handle, and a queue that we stand at the other end of. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "berth.h"
#include "ipc/fdmsg.h"
#include "test.h"
#include "wire/appmsg.h"
#include "wire/sniffed.h"

#define QUEUE_FD 3

static int dispatch = -EBADF;

/* A queue at descriptor 3, as `berth run --queue` leaves it, with a peer of ours. Whatever stood
 * there is put elsewhere by the caller's process, which is a child that ends soon. */
static struct berth *attach_inherited(unsigned flags)
{
    char pid[16];
    int pair[2];
    struct queue_name name = {
        .addr = addr_make(AF_INET, (uint8_t[4]){0}, 0), .queue = 1, .nonce = (uint32_t)getpid()};
    struct sockaddr_un un;
    socklen_t len;
    queue_name_format(&name, &un, &len);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
        (dispatch = fcntl(pair[0], F_DUPFD_CLOEXEC, 10)) < 0 ||
        bind(pair[1], (struct sockaddr *)&un, len) < 0)
        return NULL;
    int queue = fcntl(pair[1], F_DUPFD_CLOEXEC, 10);
    (void)close(pair[0]);
    (void)close(pair[1]);
    (void)dup2(queue, QUEUE_FD);
    (void)close(queue);
    (void)snprintf(pid, sizeof pid, "%d", getpid());
    (void)setenv("LISTEN_PID", pid, 1);
    (void)setenv("LISTEN_FDS", "1", 1);
    (void)setenv("LISTEN_FDNAMES", "berth", 1);
    (void)unsetenv("BERTH_INSTANCE");
    struct berth *b = berth_new();
    CHECK_INT(berth_attach(b, NULL, flags), 0);
    CHECK_INT(fcntl(QUEUE_FD, F_GETFD), -1);
    return b;
}

static void send_conn(const struct appmsg *m, int fd)
{
    uint8_t buf[APPMSG_CONN_MAX];
    int n = appmsg_encode(m, buf, sizeof buf);
    CHECK(n > 0);
    CHECK_INT(fdmsg_send(dispatch, buf, (size_t)n, &fd, fd >= 0, 0), 0);
}

/* A test runs in a child: descriptor 3 and the environment are its own. */
static void in_child(void (*run)(void))
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        run();
        (void)fflush(stdout);
        _exit(test_failed);
    }
    int status = -1;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

static bool is_readable(const struct berth *b)
{
    struct pollfd p = {.fd = berth_fd(b), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static struct appmsg conn_message(void)
{
    return (struct appmsg){.type = APPMSG_CONN,
                           .flags = APPMSG_RICH,
                           .addr = addr_make(AF_INET, (uint8_t[4]){192, 0, 2, 1}, 4711),
                           .local = addr_make(AF_INET6, &in6addr_loopback, 80),
                           .proto = PROTO_HTTP,
                           .host = STR("a.localhost"),
                           .path = STR("/x/")};
}

static void accept_one(void)
{
    struct berth *b = attach_inherited(BERTH_NOWAIT);
    struct berth_conn conn = {.size = sizeof conn};
    struct appmsg m = conn_message();
    CHECK(!is_readable(b));
    CHECK_INT(berth_accept(b, &conn, 0), -EAGAIN);
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    send_conn(&m, sock);
    CHECK(is_readable(b));
    int fd = berth_accept(b, &conn, BERTH_NONBLOCK);
    CHECK(fd >= 0);
    CHECK_INT(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK_TEXT(conn.protocol, "http");
    CHECK_TEXT(conn.host, "a.localhost");
    CHECK_TEXT(conn.path, "/x/");
    CHECK_INT(conn.peer_len, sizeof(struct sockaddr_in));
    CHECK_INT(((struct sockaddr_in *)&conn.peer)->sin_port, htons(4711));
    CHECK_INT(conn.local.ss_family, AF_INET6);
    CHECK_INT(conn.local_len, sizeof(struct sockaddr_in6));
    berth_free(b);
}

TEST("a connection comes out of the queue with all that is known of it")
{
    in_child(accept_one);
}

/* A caller of this version gets no byte more than it has room for from any later one, and one of a
 * later version none of what this one does not know. */
static void accept_sizes(void)
{
    struct berth *b = attach_inherited(BERTH_NOWAIT);
    struct {
        struct berth_conn conn;
        char later[8];
    } big = {.conn.size = sizeof big, .later = "later"};
    struct appmsg m = conn_message();
    send_conn(&m, socket(AF_INET, SOCK_STREAM, 0));
    big.conn.size--;
    CHECK(berth_accept(b, &big.conn, 0) >= 0);
    CHECK_TEXT(big.later, "later");
    CHECK_INT(big.conn.size, sizeof big - 1);
    big.conn.size = sizeof big.conn - 1;
    CHECK_INT(berth_accept(b, &big.conn, 0), -EINVAL);
    CHECK_INT(berth_accept(b, NULL, 2), -EINVAL);
    berth_free(b);
}

TEST("the size of the caller's struct is respected")
{
    in_child(accept_sizes);
}

static void accept_texts(void)
{
    char path[BERTH_PATH_SIZE + 1];
    memset(path, 'a', sizeof path);
    struct berth *b = attach_inherited(BERTH_NOWAIT);
    struct berth_conn conn = {.size = sizeof conn};
    struct appmsg m = conn_message();
    m.path = (struct str){path, BERTH_PATH_SIZE};
    m.host = (struct str){"a\0b", 3};
    m.proto = 200;
    send_conn(&m, socket(AF_INET, SOCK_STREAM, 0));
    CHECK(berth_accept(b, &conn, 0) >= 0);
    CHECK_TEXT(conn.path, "");
    CHECK_TEXT(conn.host, "");
    CHECK_TEXT(conn.protocol, "");
    m.path.n--;
    send_conn(&m, socket(AF_INET, SOCK_STREAM, 0));
    CHECK(berth_accept(b, &conn, 0) >= 0);
    CHECK_INT(strlen(conn.path), BERTH_PATH_SIZE - 1);
    berth_free(b);
}

TEST("texts that do not fit are left out, never cut")
{
    in_child(accept_texts);
}

static void accept_garbage(void)
{
    struct berth *b = attach_inherited(BERTH_NOWAIT);
    struct appmsg m = conn_message(), ok = {.type = APPMSG_OK};
    int pipes[2];
    CHECK_INT(pipe(pipes), 0);
    send_conn(&m, -EBADF);
    CHECK_INT(berth_accept(b, NULL, 0), -EPROTO);
    send_conn(&m, pipes[0]);
    CHECK_INT(berth_accept(b, NULL, 0), -EPROTO);
    send_conn(&ok, socket(AF_INET, SOCK_STREAM, 0));
    CHECK_INT(berth_accept(b, NULL, 0), -EPROTO);
    CHECK_INT(send(dispatch, "x", 1, 0), 1);
    CHECK_INT(berth_accept(b, NULL, 0), -EPROTO);
    CHECK_INT(berth_accept(b, NULL, 0), -EAGAIN);
    berth_free(b);
}

TEST("what is no connection is refused, and the next one comes")
{
    in_child(accept_garbage);
}

static void accept_end(void)
{
    struct berth *b = attach_inherited(0);
    struct appmsg m = conn_message();
    send_conn(&m, socket(AF_INET, SOCK_STREAM, 0));
    dispatch = fd_close(dispatch);
    CHECK(berth_accept(b, NULL, 0) >= 0);
    CHECK_INT(berth_accept(b, NULL, 0), -EPIPE);
    CHECK_INT(berth_detach(b), 0);
    CHECK_INT(berth_attach(b, NULL, 0), -ENOENT);
    CHECK(*berth_reason(b));
    berth_free(b);
}

TEST("what was queued comes out before the end, and a queue of unknown routes ends for good")
{
    in_child(accept_end);
}

TEST("a handle that is not attached says so")
{
    struct berth *b = berth_new();
    CHECK_INT(berth_accept(b, NULL, 0), -ENOTCONN);
    CHECK_INT(berth_detach(b), -ENOTCONN);
    CHECK_TEXT(berth_reason(b), "the handle is not attached");
    CHECK_INT(berth_set_name(b, ""), -EINVAL);
    CHECK_INT(berth_attach(b, "http://a.localhost:1/", 1u << 31), -EINVAL);
    CHECK(!is_readable(b));
    berth_free(b);
    berth_free(NULL);
}
