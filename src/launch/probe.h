#pragma once
/* Asks whether a server is well, on the loop: by connecting, or by a GET that must be answered in
 * time. */

#include <stddef.h>

#include "base/addr.h"
#include "loop/loop.h"

#define PROBE_REQUEST_MAX  1024
#define PROBE_LINE_MAX     64
#define PROBE_SENTENCE_MAX 256

struct probe;
/* Comes once, and never from inside a start. The sentence is for people: "GET /healthz: answered
 * 503". The probe is idle again, and may be started, or freed. */
typedef void probe_fn(struct probe *p, bool healthy, const char *sentence);

enum probe_state {
    PROBE_IDLE,
    PROBE_CONNECTING,
    PROBE_ASKING,
    PROBE_READING,
    PROBE_ENDING, /* answered: reads the rest, so that the server sees no reset */
    PROBE_JUDGED, /* what to say is known, and said by the timer */
};

/* What to ask. Borrowed, for the call. */
struct probe_ask {
    const char *path; /* of the GET; NULL: to be connected is enough */
    const char *host; /* the Host header; NULL: localhost */
    uint32_t limit_ms;
    probe_fn *done;
};

/* Embedded in its owner. All zero is idle. */
struct probe {
    struct loop *loop;
    struct watch watch;
    struct timer timer;
    int fd; /* owned, unless idle */
    enum probe_state state;
    probe_fn *done;
    uint32_t limit_ms;
    char request[PROBE_REQUEST_MAX];
    size_t request_n, sent;
    char line[PROBE_LINE_MAX]; /* the answer's first bytes */
    size_t line_n;
    bool healthy;
    char sentence[PROBE_SENTENCE_MAX];
};

/* Connects to the address, which is the server's own: not one behind a queue of berth's. -EINVAL
 * for a path or host that does not fit or has blanks or control characters. */
int probe_start(struct probe *p, struct loop *l, const struct addr *at,
                const struct probe_ask *ask) WARN_UNUSED;
/* The same over a connected socket, whose other end the server has or will be given. There must be
 * a path: being connected says nothing here. */
int probe_start_consume(struct probe *p, struct loop *l, int fd,
                        const struct probe_ask *ask) WARN_UNUSED;
/* Harmless for an idle one. There will be no answer. */
void probe_stop(struct probe *p);

/* Two connected TCP sockets of 127.0.0.1: ours, and one to be given to a server as if it had
 * accepted it. */
int probe_tcp_pair(int *ret_ours, int *ret_theirs) WARN_UNUSED;
