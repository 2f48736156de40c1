/* One direction of a connection that is passed on, over pairs of Unix sockets. */
#include "upstreamd/flow.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "test.h"

/* Who writes, the flow between two sockets, and who reads. */
struct rig {
    struct flow_common *common;
    struct end from, to;
    struct flow flow;
    int writer, reader;
};

static void rig_init(struct rig *r)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    *r = (struct rig){.common = calloc(1, sizeof *r->common)};
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in), 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out), 0);
    pipes_init(&r->common->pipes, 4);
    r->writer = in[0];
    r->reader = out[1];
    r->from = (struct end){.fd = in[1], .readable = true, .blocking = true};
    r->to = (struct end){.fd = out[0], .writable = true, .blocking = true};
    flow_init(&r->flow, &r->from, &r->to);
}

static void rig_done(struct rig *r)
{
    flow_done(&r->flow, r->common);
    CHECK_INT(r->common->pipes.taken, 0);
    pipes_done(&r->common->pipes);
    (void)fd_close(r->writer);
    (void)fd_close(r->reader);
    (void)fd_close(r->from.fd);
    (void)fd_close(r->to.fd);
    free(r->common);
}

static enum flow_result run(struct rig *r)
{
    r->from.readable = r->to.writable = true;
    return flow_run(&r->flow, r->common);
}

static void say(struct rig *r, const char *text)
{
    CHECK_INT(send(r->writer, text, strlen(text), 0), strlen(text));
}

static void hear(struct rig *r, const char *want)
{
    char buf[256] = "";
    ssize_t n = recv(r->reader, buf, sizeof buf - 1, MSG_DONTWAIT);
    buf[n > 0 ? n : 0] = 0;
    CHECK_TEXT(buf, want);
}

TEST("what comes goes on, and then it waits")
{
    struct rig r;
    rig_init(&r);
    say(&r, "hello");
    CHECK_INT(run(&r), FLOW_WAITS);
    hear(&r, "hello");
    CHECK_INT(run(&r), FLOW_WAITS);
    hear(&r, "");
    rig_done(&r);
}

TEST("a header goes first")
{
    struct rig r;
    rig_init(&r);
    say(&r, "body");
    CHECK_INT(flow_put(&r.flow, "head ", 5), 0);
    CHECK_INT(run(&r), FLOW_WAITS);
    hear(&r, "head body");
    rig_done(&r);
}

TEST("the end of the stream goes on behind the last byte, once")
{
    struct rig r;
    char byte;
    rig_init(&r);
    say(&r, "bye");
    (void)shutdown(r.writer, SHUT_WR);
    r.from.hung_up = true;
    CHECK_INT(run(&r), FLOW_ENDED);
    CHECK(r.flow.closed);
    hear(&r, "bye");
    CHECK_INT(recv(r.reader, &byte, 1, MSG_DONTWAIT), 0);
    CHECK_INT(run(&r), FLOW_ENDED);
    rig_done(&r);
}

TEST("the end of a sender that is gone is a reset")
{
    struct rig r;
    rig_init(&r);
    say(&r, "last words");
    r.writer = fd_close(r.writer);
    r.from.hung_up = r.from.failed = true;
    CHECK_INT(run(&r), FLOW_RESET);
    hear(&r, "last words");
    rig_done(&r);
}

TEST("who is gone takes nothing more, and the other side is told")
{
    struct rig r;
    rig_init(&r);
    r.reader = fd_close(r.reader);
    say(&r, "anybody?");
    CHECK_INT(run(&r), FLOW_WAITS);
    CHECK(r.flow.broken && r.to.failed);
    rig_done(&r);
}

static size_t fill(int fd, uint8_t *next)
{
    uint8_t block[8192];
    size_t total = 0;
    for (;;) {
        uint8_t at = *next;
        for (size_t i = 0; i < sizeof block; i++)
            block[i] = at++;
        ssize_t n = send(fd, block, sizeof block, MSG_DONTWAIT);
        if (n <= 0)
            return total;
        total += (size_t)n;
        *next = (uint8_t)(*next + n);
    }
}

static size_t drain(int fd, uint8_t *next)
{
    uint8_t block[8192];
    size_t total = 0;
    for (ssize_t n; (n = recv(fd, block, sizeof block, MSG_DONTWAIT)) > 0; total += (size_t)n)
        for (ssize_t i = 0; i < n; i++)
            if (block[i] != (*next)++) {
                CHECK_INT(block[i], *next - 1);
                return total;
            }
    return total;
}

/* Everything in order, whether it is read and written, held back, or spliced. */
static void stream_through(size_t bytes, bool plain)
{
    struct rig r;
    uint8_t sent = 0, got = 0;
    size_t in = 0, out = 0;
    bool was_bulk = false;
    rig_init(&r);
    r.flow.plain = plain;
    while (out < bytes) {
        in += fill(r.writer, &sent);
        for (int i = 0; i < 4; i++) {
            (void)run(&r);
            was_bulk |= r.flow.bulk;
        }
        CHECK(in - out < (4u << 20));
        out += drain(r.reader, &got);
    }
    CHECK(was_bulk == !plain);
    (void)shutdown(r.writer, SHUT_WR);
    r.from.hung_up = true;
    while (run(&r) != FLOW_ENDED)
        out += drain(r.reader, &got);
    out += drain(r.reader, &got);
    CHECK_INT(out, in);
    rig_done(&r);
}

TEST("much is spliced, and comes in order")
{
    stream_through(8u << 20, false);
}

TEST("where nothing can be spliced it is copied")
{
    stream_through(4u << 20, true);
}

TEST("nobody who does not read is read for")
{
    struct rig r;
    uint8_t sent = 0;
    size_t first, more = 0;
    rig_init(&r);
    first = fill(r.writer, &sent);
    for (int i = 0; i < 50; i++) {
        (void)run(&r);
        more += fill(r.writer, &sent);
    }
    CHECK(first > 0 && more < (4u << 20));
    CHECK_INT(fill(r.writer, &sent), 0);
    rig_done(&r);
}

TEST("without pipes it goes on by copying")
{
    struct rig r;
    uint8_t sent = 0, got = 0;
    size_t in = 0, out = 0;
    rig_init(&r);
    r.common->pipes.max = 0;
    for (int i = 0; i < 40; i++) {
        in += fill(r.writer, &sent);
        (void)run(&r);
        out += drain(r.reader, &got);
    }
    CHECK(in > 0 && out > (1u << 20));
    CHECK_INT(r.flow.pipe[0], -EBADF);
    rig_done(&r);
}
