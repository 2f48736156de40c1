#pragma once
/* One question to a router: a port is to be mapped, or given back. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ANSWER_MAX 96

struct request {
    bool add, tcp;
    uint16_t port;     /* of ours when it is mapped; the router's when it is given back */
    uint32_t lifetime; /* seconds */
};

/* `add udp|tcp PORT SECONDS` or `remove udp|tcp PORT`, in words. */
bool request_read(size_t count, char *const *words, struct request *ret_request);
/* Gives up what that does not need, asks, and takes ten seconds at most: the process is ended by a
 * signal otherwise. `mapped ADDRESS:PORT`, `removed`, or `failed WORD` (false). */
bool request_run(const struct request *r, char ret_answer[ANSWER_MAX]);

/* Takes such lines as messages from standard input, answers each with `udp|tcp ANSWER`, and ends
 * when the other end closes. Each is run by a process of its own. */
int serve(void);
