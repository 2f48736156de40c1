#include "launch/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "test.h"

static struct notify parse(const char *text)
{
    struct notify n;
    notify_parse(text, strlen(text), &n);
    return n;
}

TEST("all that a program may say is read from one datagram")
{
    struct notify n = parse("READY=1\nSTATUS=serving on 80\nMAINPID=4711\nWATCHDOG=1\n"
                            "EXTEND_TIMEOUT_USEC=5000000\nWATCHDOG_USEC=30\n");
    CHECK(n.ready && n.watchdog && n.has_status);
    CHECK(!n.stopping && !n.reloading && !n.watchdog_trigger);
    CHECK_INT(n.main_pid, 4711);
    CHECK_INT(n.extend_us, 5000000);
    CHECK_INT(n.watchdog_us, 30);
    CHECK_TEXT(n.status, "serving on 80");
    n = parse("STOPPING=1\nRELOADING=1\nWATCHDOG=trigger\nSTATUS=");
    CHECK(n.stopping && n.reloading && n.watchdog_trigger && n.has_status);
    CHECK(!n.ready && !n.watchdog);
    CHECK_TEXT(n.status, "");
}

TEST("lines that are unknown or malformed are passed over")
{
    struct notify n = parse("READY=0\nREADY\n=1\n\nFDSTORE=1\nMAINPID=\nMAINPID=-1\nMAINPID=0\n"
                            "MAINPID=99999999999999999999\nEXTEND_TIMEOUT_USEC=1s\nready=1");
    CHECK(!n.ready && !n.has_status);
    CHECK_INT(n.main_pid, 0);
    CHECK_INT(n.extend_us, 0);
    CHECK(parse("X\n\nREADY=1").ready);
    CHECK(!parse("").ready);
}

TEST("a status is printable UTF-8 of a bounded length")
{
    CHECK_TEXT(parse("STATUS=a\tb\x1b[31m\x7f").status, "a?b?[31m?");
    CHECK_TEXT(parse("STATUS=Gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x98\x80").status,
               "Gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x98\x80");
    CHECK_TEXT(parse("STATUS=\xc3(\xff\xc0\xaf\xed\xa0\x80\xc3").status, "?(???????");
    char text[1000] = "STATUS=";
    memset(text + 7, 'x', sizeof text - 8);
    text[sizeof text - 1] = 0;
    CHECK_INT(strlen(parse(text).status), NOTIFY_STATUS_MAX - 1);
}

struct rig {
    char folder[32], path[64];
    int fd, sender;
};

static void rig_init(struct rig *r)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    *r = (struct rig){.folder = "/tmp/berth-notify-XXXXXX"};
    CHECK(mkdtemp(r->folder) != NULL);
    (void)snprintf(r->path, sizeof r->path, "%s/notify", r->folder);
    r->fd = notify_open(r->path);
    CHECK(r->fd >= 0);
    memcpy(un.sun_path, r->path, sizeof r->path);
    r->sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(r->sender, (struct sockaddr *)&un, sizeof un), 0);
}

static void rig_done(struct rig *r)
{
    (void)(close(r->fd) + close(r->sender));
    (void)unlink(r->path);
    (void)rmdir(r->folder);
}

TEST("a datagram comes with the number of the process that sent it")
{
    struct rig r;
    struct notify n;
    struct stat st;
    rig_init(&r);
    CHECK_INT(stat(r.path, &st), 0);
    CHECK_INT(st.st_mode & 0777, 0666);
    CHECK_INT(notify_read(r.fd, &n), -EAGAIN);
    pid_t pid = fork();
    if (pid == 0)
        _exit(send(r.sender, "READY=1", 7, 0) != 7);
    CHECK_INT(waitpid(pid, NULL, 0), pid);
    CHECK_INT(notify_read(r.fd, &n), 0);
    CHECK(n.ready);
    CHECK_INT(n.pid, pid);
    CHECK_INT(n.uid, geteuid());
    CHECK_INT(notify_read(r.fd, &n), -EAGAIN);
    rig_done(&r);
}

TEST("descriptors that come along are closed, which answers a barrier")
{
    struct rig r;
    struct notify n;
    int barrier[2];
    char byte, text[] = "FDSTORE=1\nREADY=1", room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {text, strlen(text)};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    rig_init(&r);
    CHECK_INT(pipe(barrier), 0);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &barrier[1], sizeof(int));
    CHECK_INT(sendmsg(r.sender, &m, 0), strlen(text));
    (void)close(barrier[1]);
    CHECK_INT(notify_read(r.fd, &n), 0);
    CHECK(n.ready);
    CHECK_INT(n.pid, getpid());
    CHECK_INT(read(barrier[0], &byte, 1), 0);
    (void)close(barrier[0]);
    rig_done(&r);
}

TEST("a datagram that is too long is passed over, the next is read")
{
    struct rig r;
    struct notify n;
    static char text[8000];
    rig_init(&r);
    memset(text, 'x', sizeof text);
    memcpy(text, "READY=1\n", 8);
    CHECK_INT(send(r.sender, text, sizeof text, 0), sizeof text);
    CHECK_INT(send(r.sender, "STOPPING=1", 10, 0), 10);
    CHECK_INT(notify_read(r.fd, &n), -EBADMSG);
    CHECK_INT(notify_read(r.fd, &n), 0);
    CHECK(n.stopping);
    rig_done(&r);
}
