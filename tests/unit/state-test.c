/* What berthd tells dispatch, and what dispatch gives back, over a channel that is a socket pair.
 */
#include "dispatchd/state.h"
#include "worker-rig.h"

#include <dirent.h>
#include <fcntl.h>

#define ASK "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"

/* Its threads never end, so there is one for all tests; each leaves it empty. */
static struct state *state;
static int channel[2]; /* dispatch's end, berthd's end */

/* A listener, a queue with one option and a claim, all of number 0. */
struct told {
    struct addr at;
    int read_fd; /* the program's copy */
};

static int tell(const struct dispatchmsg *m, int *fds, size_t fd_count)
{
    return state_handle_consume(state, channel[0], m, fds, fd_count);
}

static int tell_id(enum dispatchmsg_type type, uint32_t id)
{
    return tell(&(struct dispatchmsg){.type = type, .id = id}, NULL, 0);
}

struct answer {
    struct dispatchmsg msg;
    int fds[FDMSG_FDS_MAX];
    size_t fd_count;
    uint8_t bytes[DISPATCHMSG_MAX];
};

static void answer_take(struct answer *ret, enum dispatchmsg_type want)
{
    ret->fd_count = 0;
    ret->msg.type = 0;
    ssize_t n = fdmsg_recv(channel[1], ret->bytes, sizeof ret->bytes, ret->fds, FDMSG_FDS_MAX,
                           &ret->fd_count, MSG_DONTWAIT);
    CHECK(n > 0 && dispatchmsg_decode(&ret->msg, ret->bytes, (size_t)n) == 0);
    CHECK_INT(ret->msg.type, want);
}

static void answer_done(struct answer *a)
{
    for (size_t i = 0; i < a->fd_count; i++)
        (void)fd_close(a->fds[i]);
}

static void commit(uint32_t serial)
{
    struct answer *a = calloc(1, sizeof *a);
    CHECK_INT(tell_id(DISPATCH_COMMIT, serial), 0);
    answer_take(a, DISPATCH_COMMITTED);
    CHECK_INT(a->msg.id, serial);
    answer_done(a);
    free(a);
}

static void state_ready(void)
{
    if (state)
        return;
    log_init("unit", LOG_ERROR);
    state = state_new(&(struct state_config){.threads = 2, .limits = patient});
    CHECK(state != NULL);
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
}

static void told_all(struct told *t)
{
    int pair[2], on = 1;
    state_ready();
    int fd = rig_socket(&t->at);
    struct dispatchmsg m = {.type = DISPATCH_LISTENER, .addr = t->at};
    CHECK_INT(tell(&m, &fd, 1), 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    t->read_fd = fcntl(pair[1], F_DUPFD_CLOEXEC, 3);
    m = (struct dispatchmsg){
        .type = DISPATCH_QUEUE, .flags = DISPATCH_RICH, .note = STR("a\0note")};
    CHECK_INT(tell(&m, pair, 2), 0);
    m = (struct dispatchmsg){.type = DISPATCH_OPTION,
                             .level = IPPROTO_TCP,
                             .option = TCP_NODELAY,
                             .value = {(char *)&on, sizeof on}};
    CHECK_INT(tell(&m, NULL, 0), 0);
    m = (struct dispatchmsg){
        .type = DISPATCH_CLAIM, .app = 1, .addr = t->at, .route = STR("http://a.test/")};
    CHECK_INT(tell(&m, NULL, 0), 0);
}

static void told_done(struct told *t)
{
    CHECK_INT(tell_id(DISPATCH_RESET, 0), 0);
    CHECK_INT(tell_id(DISPATCH_DROP_QUEUE, 0), 0);
    commit(1000);
    t->read_fd = fd_close(t->read_fd);
}

static bool reaches(const struct addr *to)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = connect(fd, &to->sa, to->len) == 0;
    (void)fd_close(fd);
    return yes;
}

static size_t open_fds(void)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    (void)closedir(d);
    return n;
}

/* The tests that count descriptors come first, before there is any connection: a thread closes its
 * own when it pleases. */

/* As many open sockets as the message is to carry. */
static size_t some_fds(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return count;
}

TEST("nonsense is -EBADMSG and its descriptors are closed")
{
    static const struct {
        struct dispatchmsg msg;
        size_t fds;
    } nonsense[] = {
        {{.type = DISPATCH_LISTENER}, 0},
        {{.type = DISPATCH_LISTENER, .id = BOARD_CLAIMS_MAX}, 3},
        {{.type = DISPATCH_LISTENER, .id = UINT32_MAX}, 1},
        {{.type = DISPATCH_QUEUE}, 0},
        {{.type = DISPATCH_QUEUE}, 1},
        {{.type = DISPATCH_QUEUE}, 3},
        {{.type = DISPATCH_QUEUE, .id = UINT32_MAX}, 2},
        {{.type = DISPATCH_OPTION, .id = 5}, 0},
        {{.type = DISPATCH_OPTION, .id = UINT32_MAX}, 1},
        {{.type = DISPATCH_CLAIM, .id = UINT32_MAX}, 1},
        {{.type = DISPATCH_BOARD}, 1},
        {{.type = DISPATCH_COMMITTED}, 1},
        {{.type = DISPATCH_RECOVERED}, 0},
        {{.type = DISPATCH_TYPE_COUNT}, 2},
    };
    state_ready();
    size_t before = open_fds();
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        struct dispatchmsg m = nonsense[i].msg;
        int fds[4];
        m.route = m.note = m.value = STR("");
        CHECK_INT(tell(&m, fds, some_fds(fds, nonsense[i].fds)), -EBADMSG);
        CHECK_INT(open_fds(), before);
    }
}

TEST("descriptors with a message that needs none are closed")
{
    int fds[2];
    state_ready();
    size_t before = open_fds();
    CHECK_INT(tell(&(struct dispatchmsg){.type = DISPATCH_DROP_CLAIM}, fds, some_fds(fds, 2)), 0);
    CHECK_INT(open_fds(), before);
}

TEST("a hundred rounds of everything leave no descriptor behind")
{
    struct told t;
    state_ready();
    size_t before = open_fds();
    for (int i = 0; i < 100; i++) {
        told_all(&t);
        commit(1);
        told_done(&t);
    }
    CHECK_INT(open_fds(), before);
}

TEST("what was told is served from COMMIT on, which is answered with its serial")
{
    struct told t;
    struct passed got;
    told_all(&t);
    CLEANUP_FD int c = client_ask(&t.at, ASK);
    CHECK(is_quiet(t.read_fd));
    commit(9);
    CHECK(passed_take(t.read_fd, &got));
    int value = 0;
    socklen_t len = sizeof value;
    CHECK_INT(getsockopt(got.fd, IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
    CHECK_INT(value, 1);
    (void)fd_close(got.fd);
    told_done(&t);
}

TEST("a new berthd gets back what the dead one had told")
{
    struct told t;
    struct answer *a = calloc(1, sizeof *a);
    told_all(&t);
    commit(1);
    CHECK_INT(tell_id(DISPATCH_RECOVER, 0), 0);
    answer_take(a, DISPATCH_QUEUE);
    CHECK_INT(a->fd_count, 2);
    CHECK_INT(a->msg.id, 0);
    CHECK_INT(a->msg.flags, DISPATCH_RICH);
    CHECK(str_eq(a->msg.note, STR("a\0note")));
    /* Its ends are those of the queue, in this order. */
    CHECK_INT(send(a->fds[0], "x", 1, MSG_NOSIGNAL), 1);
    char byte = 0;
    CHECK_INT(recv(t.read_fd, &byte, 1, MSG_DONTWAIT), 1);
    answer_done(a);
    answer_take(a, DISPATCH_LISTENER);
    CHECK_INT(a->fd_count, 1);
    CHECK(addr_equal(&a->msg.addr, &t.at));
    answer_done(a);
    answer_take(a, DISPATCH_BOARD);
    CHECK_INT(a->fd_count, 1);
    answer_done(a);
    answer_take(a, DISPATCH_RECOVERED);
    CHECK_INT(a->msg.id, getpid());
    CHECK(is_quiet(channel[1]));
    free(a);
    told_done(&t);
}

TEST("after RESET nothing is served, and the queues wait for whoever takes them up")
{
    struct told t;
    struct answer *a = calloc(1, sizeof *a);
    told_all(&t);
    commit(1);
    CHECK(reaches(&t.at));
    CHECK_INT(tell_id(DISPATCH_RESET, 0), 0);
    CHECK(reaches(&t.at));
    commit(2);
    CHECK(!reaches(&t.at));
    CHECK_INT(tell_id(DISPATCH_RECOVER, 0), 0);
    answer_take(a, DISPATCH_QUEUE);
    answer_done(a);
    answer_take(a, DISPATCH_BOARD);
    answer_done(a);
    answer_take(a, DISPATCH_RECOVERED);
    free(a);
    told_done(&t);
}

TEST("a queue that is known already keeps its ends when only its note is new")
{
    struct told t;
    struct passed got;
    struct answer *a = calloc(1, sizeof *a);
    told_all(&t);
    struct dispatchmsg m = {.type = DISPATCH_QUEUE, .note = STR("another")};
    CHECK_INT(tell(&m, NULL, 0), 0);
    commit(1);
    CLEANUP_FD int c = client_open(&t.at);
    CHECK(passed_take(t.read_fd, &got));
    (void)fd_close(got.fd);
    CHECK_INT(tell_id(DISPATCH_RECOVER, 0), 0);
    answer_take(a, DISPATCH_QUEUE);
    CHECK_STR(a->msg.note, "another");
    answer_done(a);
    for (a->msg.type = 0; a->msg.type != DISPATCH_RECOVERED && !is_quiet(channel[1]);) {
        ssize_t n = fdmsg_recv(channel[1], a->bytes, sizeof a->bytes, a->fds, FDMSG_FDS_MAX,
                               &a->fd_count, MSG_DONTWAIT);
        CHECK_INT(dispatchmsg_decode(&a->msg, a->bytes, (size_t)n), 0);
        answer_done(a);
    }
    free(a);
    told_done(&t);
}

TEST("who waits in a queue that is dropped is told 503")
{
    struct told t;
    told_all(&t);
    commit(1);
    CLEANUP_FD int c = client_ask(&t.at, ASK);
    struct pollfd p = {.fd = t.read_fd, .events = POLLIN};
    CHECK_INT(poll(&p, 1, DEADLINE_MS), 1);
    CHECK_INT(tell_id(DISPATCH_DROP_CLAIM, 0), 0);
    CHECK_INT(tell_id(DISPATCH_DROP_QUEUE, 0), 0);
    commit(2);
    client_expect(c, "HTTP/1.1 503 ");
    told_done(&t);
}

TEST("dropping what is not there is no error")
{
    state_ready();
    CHECK_INT(tell_id(DISPATCH_DROP_LISTENER, 77), 0);
    CHECK_INT(tell_id(DISPATCH_DROP_QUEUE, 77), 0);
    CHECK_INT(tell_id(DISPATCH_DROP_CLAIM, UINT32_MAX), 0);
    commit(1);
}

TEST("a claim whose route nobody understands, or whose queue is missing, takes no other with it")
{
    struct told t;
    struct passed got;
    told_all(&t);
    struct dispatchmsg m = {
        .type = DISPATCH_CLAIM, .id = 1, .app = 2, .addr = t.at, .route = STR("gopher://x/")};
    CHECK_INT(tell(&m, NULL, 0), 0);
    m.id = 2;
    m.queue = 12345;
    m.route = STR("http://b.test/");
    CHECK_INT(tell(&m, NULL, 0), 0);
    commit(1);
    CLEANUP_FD int c = client_ask(&t.at, ASK);
    CHECK(passed_take(t.read_fd, &got));
    (void)fd_close(got.fd);
    told_done(&t);
}

struct stream {
    struct told *told;
    atomic_bool done;
    int whole; /* connections that came out of the queue with their request */
};

#define STREAM_CLIENTS 400

static void *stream_main(void *arg)
{
    struct stream *s = arg;
    for (int i = 0; i < STREAM_CLIENTS; i++) {
        struct passed got;
        char buf[sizeof ASK] = "";
        int err;
        CLEANUP_FD int c = client_ask(&s->told->at, ASK);
        if (!passed_take(s->told->read_fd, &got))
            break;
        size_t n = read_all(got.fd, buf, sizeof ASK - 1, &err);
        s->whole += n == sizeof ASK - 1 && memcmp(buf, ASK, n) == 0;
        (void)fd_close(got.fd);
    }
    atomic_store(&s->done, true);
    return NULL;
}

/* Another application comes and goes: it makes the difference between judging by address and
 * judging by bytes. */
static void change(const struct told *t, uint32_t round)
{
    int on = 1;
    struct dispatchmsg m = {
        .type = DISPATCH_CLAIM, .id = 1, .app = 2, .addr = t->at, .route = STR("http://b.test/")};
    if (round % 2)
        CHECK_INT(tell_id(DISPATCH_DROP_CLAIM, 1), 0);
    else
        CHECK_INT(tell(&m, NULL, 0), 0);
    m = (struct dispatchmsg){.type = DISPATCH_OPTION,
                             .level = SOL_SOCKET,
                             .option = SO_KEEPALIVE,
                             .value = {(char *)&on, sizeof on}};
    CHECK_INT(tell(&m, NULL, 0), 0);
    commit(round);
}

TEST("changes while connections come in lose none of them")
{
    struct told t;
    pthread_t thread;
    told_all(&t);
    commit(1);
    struct stream s = {.told = &t};
    CHECK_INT(pthread_create(&thread, NULL, stream_main, &s), 0);
    for (uint32_t round = 0; !atomic_load(&s.done); round++)
        change(&t, round);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(s.whole, STREAM_CLIENTS);
    CHECK_INT(tell_id(DISPATCH_DROP_CLAIM, 1), 0);
    told_done(&t);
}

TEST("a channel whose other end is gone is given up")
{
    int pair[2];
    state_ready();
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    (void)fd_close(pair[1]);
    struct dispatchmsg m = {.type = DISPATCH_COMMIT, .id = 1};
    CHECK_INT(state_handle_consume(state, pair[0], &m, NULL, 0), -EPIPE);
    m.type = DISPATCH_RECOVER;
    CHECK_INT(state_handle_consume(state, pair[0], &m, NULL, 0), -EPIPE);
    (void)fd_close(pair[0]);
}
