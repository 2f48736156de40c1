/* Bytes come in at one socket and go out at the other; the end of the stream and resets go the same
 * way. Nothing here waits: what the kernel does not do at once is tried again at the next event. */
#include "upstreamd/flow.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Others have their turn after so many. */
#define ROUNDS 16
/* So many full buffers begin bulk, so many splices of less than this end it: a splice costs more
 * than a copy of so little. */
#define FULL_READS   2
#define SCANT_BYTES  16384
#define SCANT_MAX    4
#define SPLICE_BYTES (1 << 20)
#define SPLICE_FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK)

void flow_init(struct flow *f, struct end *from, struct end *to)
{
    *f = (struct flow){.from = from, .to = to, .pipe = {-EBADF, -EBADF}};
}

static void pipe_leave(struct flow *f, struct flow_common *common)
{
    if (f->pipe[0] < 0)
        return;
    pipes_give(&common->pipes, f->pipe, f->piped == 0);
    f->piped = 0;
}

void flow_done(struct flow *f, struct flow_common *common)
{
    pipe_leave(f, common);
    free(f->held);
    f->held = NULL;
}

int flow_put(struct flow *f, const void *bytes, size_t n)
{
    f->held = malloc(n);
    if (!f->held)
        return -ENOMEM;
    memcpy(f->held, bytes, n);
    f->held_at = 0;
    f->held_end = n;
    return 0;
}

/* A write failed: when this is final the receiver takes nothing any more. */
static void write_failed(struct flow *f)
{
    if (errno == EAGAIN)
        f->to->writable = false;
    else
        f->broken = true;
}

static void held_drain(struct flow *f)
{
    while (f->held_at < f->held_end && f->to->writable && !f->broken) {
        ssize_t n = send(f->to->fd, f->held + f->held_at, f->held_end - f->held_at,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            write_failed(f);
        else
            f->held_at += (size_t)n;
    }
    if (f->held_at < f->held_end)
        return;
    free(f->held);
    f->held = NULL;
}

static void pipe_drain(struct flow *f)
{
    while (f->piped > 0 && f->to->writable && !f->broken) {
        ssize_t n = splice(f->pipe[0], NULL, f->to->fd, NULL, f->piped, SPLICE_FLAGS);
        if (n < 0)
            write_failed(f);
        else
            f->piped -= (size_t)n;
    }
}

/* Whether nothing is left over. */
static bool drain(struct flow *f)
{
    if (f->held)
        held_drain(f);
    if (!f->held && f->piped > 0)
        pipe_drain(f);
    return !f->held && f->piped == 0;
}

/* 0: the stream has ended; negative: nothing now, or a reset. */
static ssize_t read_result(struct flow *f, ssize_t n)
{
    if (n > 0)
        return n;
    if (n == 0)
        f->finished = true;
    else if (errno == EAGAIN)
        f->from->readable = false;
    return n == 0 ? 0 : -errno;
}

/* recv() and send() are told each time that they must not wait; a splice asks the file. */
static void bulk_begin(struct flow *f)
{
    struct end *ends[] = {f->from, f->to};
    for (size_t i = 0; i < 2; i++)
        if (ends[i]->blocking && fcntl(ends[i]->fd, F_SETFL, O_NONBLOCK) == 0)
            ends[i]->blocking = false;
    f->bulk = !f->from->blocking && !f->to->blocking;
}

/* A read that was cut short has emptied the socket: an event comes with the next bytes. */
static ssize_t fill_by_read(struct flow *f, struct flow_common *common)
{
    ssize_t n = recv(f->from->fd, common->buffer, FLOW_BUFFER, MSG_DONTWAIT);
    n = read_result(f, n);
    if (n <= 0)
        return n;
    if (n < FLOW_BUFFER && !f->from->hung_up)
        f->from->readable = false;
    f->full = n == FLOW_BUFFER ? f->full + 1 : 0;
    if (f->full >= FULL_READS && !f->plain)
        bulk_begin(f);
    ssize_t sent = send(f->to->fd, common->buffer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        write_failed(f);
    size_t done = sent < 0 ? 0 : (size_t)sent;
    if (done < (size_t)n && !f->broken && flow_put(f, common->buffer + done, (size_t)n - done) < 0)
        return -ENOMEM;
    return n;
}

static void bulk_end(struct flow *f)
{
    f->bulk = false;
    f->full = f->scant = 0;
}

static ssize_t fill_by_splice(struct flow *f, struct flow_common *common)
{
    if (f->pipe[0] < 0 && pipes_take(&common->pipes, f->pipe) < 0) {
        bulk_end(f);
        return 1;
    }
    ssize_t n = splice(f->from->fd, NULL, f->pipe[1], NULL, SPLICE_BYTES, SPLICE_FLAGS);
    if (n < 0 && errno == EINVAL) {
        f->plain = true;
        bulk_end(f);
        return 1;
    }
    n = read_result(f, n);
    if (n <= 0)
        return n;
    f->piped = (size_t)n;
    f->scant = n < SCANT_BYTES ? f->scant + 1 : 0;
    if (f->scant >= SCANT_MAX)
        bulk_end(f);
    return n;
}

/* The end of the stream, when it is no reset in disguise: who cannot be written to any more because
 * he has gone says "end of stream", too. */
static enum flow_result finish(struct flow *f)
{
    if (f->from->failed)
        return FLOW_RESET;
    if (!f->closed && !f->last)
        (void)shutdown(f->to->fd, SHUT_WR);
    f->closed = true;
    return FLOW_ENDED;
}

static enum flow_result run(struct flow *f, struct flow_common *common)
{
    for (int i = 0; i < ROUNDS; i++) {
        if (f->broken)
            return FLOW_WAITS;
        if (!drain(f))
            return FLOW_WAITS;
        if (f->finished)
            return finish(f);
        if (!f->from->readable || !f->to->writable)
            return FLOW_WAITS;
        ssize_t n = f->bulk ? fill_by_splice(f, common) : fill_by_read(f, common);
        if (n < 0 && n != -EAGAIN)
            return FLOW_RESET;
    }
    return FLOW_MORE;
}

enum flow_result flow_run(struct flow *f, struct flow_common *common)
{
    enum flow_result result = run(f, common);
    if (f->piped == 0)
        pipe_leave(f, common);
    if (f->broken)
        f->to->failed = true;
    return result;
}
