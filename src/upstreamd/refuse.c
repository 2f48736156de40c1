/* A client that cannot be connected: what it has said so far is looked at, and it is told in its
 * own protocol, as dispatch does. */
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "share/sniff.h"
#include "upstreamd/upstream.h"

#define LOG_LINES_PER_SEC 20

enum reason refuse_reason(int err)
{
    switch (err) {
    case -ECONNREFUSED:
    case -ENOENT:
        return REASON_UPSTREAM_REFUSED;
    case -ETIMEDOUT:
    case -EAGAIN:
        return REASON_UPSTREAM_TIMEOUT;
    case -ENOMEM:
    case -EMFILE:
    case -ENFILE:
        return REASON_NO_MEMORY;
    case -EBADMSG:
        return REASON_BAD_PROXY;
    case -EADDRNOTAVAIL:
    default:
        return REASON_UPSTREAM_UNREACHABLE;
    }
}

void refuse_log(struct upstream *u, const struct addr *peer, enum reason reason, int err)
{
    char text[ADDR_TEXT_MAX];
    uint64_t second = clock_now_ms() / 1000;
    if (second != u->log_second)
        u->log_count = 0;
    u->log_second = second;
    if (++u->log_count > LOG_LINES_PER_SEC)
        return;
    log_warn("refused reason=%s to=%s peer=%s err=%s", reason_word(reason), u->target.text,
             addr_format(peer, text), err ? strerror(-err) : "-");
}

bool refuse_answer(int fd, enum reason reason)
{
    char in[SNIFF_BYTES_MAX], text[256], buf[1024];
    struct sniffed s;
    struct refusal why = {.reason = reason};
    ssize_t n = recv(fd, in, sizeof in, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0 || sniff_bytes((struct str){in, (size_t)n}, &s) != SNIFF_DONE)
        return false;
    const struct reason_info *info = reason_info(reason);
    int len = snprintf(text, sizeof text, "berth: %s\n%s\n", info->word, info->sentence);
    struct str answer = sniff_refusal(&s, &why, (struct str){text, (size_t)len}, buf, sizeof buf);
    return answer.n > 0 && send(fd, answer.p, answer.n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
}
