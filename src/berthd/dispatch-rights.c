/* What dispatch may say, as a table, and the proofs of what it says: all from the kernel, none from
 * dispatch itself. */
#include "berthd/dispatch-rights.h"

#include <fcntl.h>
#include <sys/stat.h>

static const struct {
    const char *name, *gets;
    unsigned when;
    uint8_t fds_min, fds_max;
} rights[DISPATCH_TYPE_COUNT] = {
    [DISPATCH_QUEUE] = {"QUEUE", "a queue back, when berthd had sealed its note", SAYS_REBUILD, 2,
                        2},
    [DISPATCH_LISTENER] = {"LISTENER", "a listener back, when the sockets listen there",
                           SAYS_REBUILD, 1, DISPATCH_THREADS},
    /* The page, and both ends of where the keeper leaves what it finds. */
    [DISPATCH_BOARD] = {"BOARD", "its counters read, when the page cannot shrink", SAYS_ANSWER, 1,
                        3},
    [DISPATCH_RECOVERED] = {"RECOVERED", "the end of its answer; its pid is asked of the kernel",
                            SAYS_ANSWER, 0, 0},
    [DISPATCH_COMMITTED] = {"COMMITTED", "whoever waits for that change answered", SAYS_SERVING, 0,
                            0},
};

bool dispatch_may_say(enum dispatchmsg_type type, unsigned when, size_t fd_count)
{
    return (rights[type].when & when) && fd_count >= rights[type].fds_min &&
           fd_count <= rights[type].fds_max;
}

static const char *when_text(unsigned when)
{
    return when & SAYS_SERVING ? "always" : when & SAYS_ANSWER ? "asked" : "asked by a new berthd";
}

json_t *dispatch_rights_json(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < DISPATCH_TYPE_COUNT; i++)
        if (rights[i].name)
            (void)json_array_append_new(
                list, json_pack("{s:s, s:s, s:s, s:i}", "request", rights[i].name, "when",
                                when_text(rights[i].when), "gets", rights[i].gets, "descriptors",
                                (int)rights[i].fds_max));
    return list;
}

static bool option_is(int fd, int option, int wanted)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == wanted;
}

/* A Unix socket was bound under the name that it has, so that this is its path, too. */
static bool listens_at(int fd, const struct addr *bound)
{
    struct addr a = {0};
    a.len = sizeof a.un;
    if (!option_is(fd, SO_TYPE, SOCK_STREAM) || !option_is(fd, SO_ACCEPTCONN, 1) ||
        getsockname(fd, &a.sa, &a.len) < 0)
        return false;
    a = addr_from(&a.sa, a.len);
    if (a.sa.sa_family == AF_UNIX)
        return bound->sa.sa_family == AF_UNIX &&
               strncmp(a.un.sun_path, bound->un.sun_path, sizeof a.un.sun_path) == 0;
    return addr_equal(&a, bound);
}

bool dispatch_listener_is_true(const struct dispatchmsg *m, const int *fds, size_t fd_count)
{
    for (size_t i = 0; i < fd_count; i++)
        if (!listens_at(fds[i], &m->addr))
            return false;
    return fd_count > 0;
}

bool dispatch_board_is_true(int fd)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && seals & F_SEAL_SHRINK && fstat(fd, &st) == 0 &&
           (size_t)st.st_size >= sizeof(struct board);
}

/* Of a connected socket this is who called listen(): dispatch does so when it starts. */
pid_t dispatch_peer_pid(int channel)
{
    struct ucred cred = {0};
    socklen_t len = sizeof cred;
    return getsockopt(channel, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ? 0 : cred.pid;
}
