/* A thread among those of other servers that share a Redis: what they ask for their peers comes in
 * and is handled as if those had asked here; what they have for our peers is passed on. */
#include <netdb.h>
#include <stdlib.h>

#include "base/log.h"
#include "rendezvousd/thread.h"

#define HOST_MAX 256

int nodes_advertise(const char *text, struct addr *ret_addr)
{
    char host[HOST_MAX];
    const char *colon = strrchr(text, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *list = NULL;
    if (addr_parse(text, ret_addr) == 0)
        return ret_addr->sa.sa_family == AF_UNIX || addr_is_wildcard(ret_addr) ||
                       addr_port(ret_addr) == 0
                   ? -EINVAL
                   : 0;
    if (!colon || colon == text || (size_t)(colon - text) >= sizeof host)
        return -EINVAL;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &list) != 0)
        return -EHOSTUNREACH;
    *ret_addr = addr_from(list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    return addr_port(ret_addr) == 0 ? -EINVAL : 0;
}

static void changed(struct redis_host *h, const char *event, const char *why)
{
    const struct thread *th = container_of(h, struct thread, redis);
    if (why[0])
        log_warn("redis %s thread=%u err=%s", event, th->index, why);
    else
        log_info("redis %s thread=%u", event, th->index);
}

/* A call or what is said of one, and one for a peer of ours when all are asked: the others are
 * silent. */
static bool is_for_us(const struct thread *th, const struct nodemsg *m)
{
    struct rdvmsg call;
    struct place to;
    if (rdvmsg_decode(&call, m->message.p, m->message.n) < 0 ||
        (call.type != RDVMSG_CALL && call.type != RDVMSG_WORKED))
        return false;
    return m->type == NODEMSG_ASK ||
           registry_place(th->rdv.shared->registry, call.peer, (uint32_t)(th->now_ms / 1000), &to);
}

static void ask(struct thread *th, const struct nodemsg *m)
{
    uint8_t out[RDVMSG_MAX];
    struct nodemsg reply = {.type = NODEMSG_REPLY, .request = m->request};
    struct rdv_input in = {.bytes = m->message, .from = m->seen};
    in.via.thread = PLACE_ELSEWHERE;
    memcpy(&in.via.connection, m->node, sizeof in.via.connection);
    size_t n = is_for_us(th, m) ? thread_handle(th, &in, out) : 0;
    reply.message = (struct str){(const char *)out, n};
    if (n > 0)
        redis_send(th->rdv.redis, m->node, &reply);
}

static void message(struct redis_host *h, const struct nodemsg *m)
{
    struct thread *th = container_of(h, struct thread, redis);
    const struct rdv_push *push = &th->rdv.push;
    thread_clocks(th);
    if (m->type != NODEMSG_PUSH)
        ask(th, m);
    else if (rdv_pass_on(&th->rdv, m, th->now_ms))
        thread_send(th, &push->to, (struct str){(const char *)push->bytes, push->n});
    thread_flush(th);
}

int nodes_join(struct thread *th)
{
    struct redis_shared *shared = th->rdv.shared->redis;
    if (!shared)
        return 0;
    th->redis = (struct redis_host){&th->loop, th->index, changed, message};
    th->rdv.redis = redis_new(shared, &th->redis);
    return th->rdv.redis ? 0 : -ENOMEM;
}
