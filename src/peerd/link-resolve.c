/* Where a server is: its addresses, by SRV records where only a name was given. Asking may take
 * seconds, so a thread does it; what it found waits in a struct that both sides hold, and an
 * eventfd tells the loop. */
#include <arpa/nameser.h>
#include <netdb.h>
#include <pthread.h>
#include <resolv.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "peerd/link-internal.h"

#define ANSWER_MAX 4096

struct resolve {
    struct watch watch;
    struct site *site; /* NULL: nobody waits any more; the loop's side only */
    struct server_name where;
    struct addr addrs[LINK_ADDRS_MAX];
    size_t count;
    int error;
    int event_fd; /* owned by the struct */
    int holders;  /* the thread and the site; the last one frees */
};

static void release(struct resolve *r)
{
    if (__atomic_sub_fetch(&r->holders, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    r->event_fd = fd_close(r->event_fd);
    free(r);
}

int resolve_numeric(const struct server_name *s, struct addr *ret_addr)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    if (getaddrinfo(s->host, s->port, &hints, &list) != 0)
        return -EINVAL;
    *ret_addr = addr_from(list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    return 0;
}

static int record_parse(ns_msg *m, int i, struct server_name *ret_name, unsigned *ret_rank)
{
    ns_rr rr;
    struct server_name s = {.port_given = true};
    if (ns_parserr(m, ns_s_an, i, &rr) < 0 || ns_rr_type(rr) != ns_t_srv || ns_rr_rdlen(rr) < 7)
        return -ENOENT;
    const uint8_t *d = ns_rr_rdata(rr);
    uint16_t port = (uint16_t)ns_get16(d + 4);
    if (dn_expand(ns_msg_base(*m), ns_msg_end(*m), d + 6, s.host, sizeof s.host) < 0 ||
        !s.host[0] || port == 0)
        return -ENOENT;
    (void)snprintf(s.port, sizeof s.port, "%hu", port);
    *ret_name = s;
    /* RFC 2782: the lowest priority first; of those the one with the most weight. */
    *ret_rank = (unsigned)ns_get16(d) << 16 | (0xffff - ns_get16(d + 2));
    return 0;
}

int srv_parse(const uint8_t *answer, size_t n, struct server_name *ret_name)
{
    ns_msg m;
    unsigned best = UINT32_MAX;
    int r = -ENOENT;
    if (ns_initparse(answer, (int)n, &m) < 0)
        return -ENOENT;
    for (int i = 0; i < ns_msg_count(m, ns_s_an); i++) {
        struct server_name s;
        unsigned rank;
        if (record_parse(&m, i, &s, &rank) < 0 || (r == 0 && rank >= best))
            continue;
        *ret_name = s;
        best = rank;
        r = 0;
    }
    return r;
}

/* Leaves the name as it is when there are no such records. */
static void srv_look_up(struct server_name *s)
{
    struct __res_state state = {0};
    uint8_t answer[ANSWER_MAX];
    char name[SERVER_HOST_MAX + 16];
    if (res_ninit(&state) < 0)
        return;
    (void)snprintf(name, sizeof name, "_berth._udp.%s", s->host);
    int n = res_nquery(&state, name, ns_c_in, ns_t_srv, answer, sizeof answer);
    struct server_name target;
    if (n > 0 && n <= (int)sizeof answer && srv_parse(answer, (size_t)n, &target) == 0)
        *s = target;
    res_nclose(&state);
}

static void *look_up(void *arg)
{
    struct resolve *r = arg;
    const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    if (!r->where.port_given)
        srv_look_up(&r->where);
    r->error = getaddrinfo(r->where.host, r->where.port, &hints, &list);
    for (const struct addrinfo *a = list; a && r->count < LINK_ADDRS_MAX; a = a->ai_next)
        r->addrs[r->count++] = addr_from(a->ai_addr, a->ai_addrlen);
    if (list)
        freeaddrinfo(list);
    (void)eventfd_write(r->event_fd, 1);
    release(r);
    return NULL;
}

static void ready(struct watch *w, uint32_t events)
{
    struct resolve *r = container_of(w, struct resolve, watch);
    struct site *p = r->site;
    (void)events;
    loop_unwatch(p->link->loop, &r->watch);
    p->resolve = NULL;
    if (r->count > 0)
        site_resolved(p, r->addrs, r->count);
    else
        site_unresolved(p, r->error ? gai_strerror(r->error) : "no address");
    release(r);
}

/* Signals are the loop's. */
static int thread_start(struct resolve *r)
{
    pthread_t thread;
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int e = pthread_create(&thread, NULL, look_up, r);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e == 0)
        (void)pthread_detach(thread);
    return -e;
}

int resolve_start(struct site *p)
{
    if (p->resolve)
        return 0;
    struct resolve *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    *r = (struct resolve){.site = p, .where = p->where, .holders = 2, .watch.fd = -EBADF};
    r->watch.ready = ready;
    r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int e = r->event_fd < 0 ? -errno : 0;
    if (e == 0)
        e = loop_watch(p->link->loop, &r->watch, r->event_fd, EPOLLIN);
    if (e == 0)
        e = thread_start(r);
    if (e < 0) {
        loop_unwatch(p->link->loop, &r->watch);
        r->event_fd = fd_close(r->event_fd);
        free(r);
        return e;
    }
    p->resolve = r;
    return 0;
}

void resolve_stop(struct site *p)
{
    if (!p->resolve)
        return;
    loop_unwatch(p->link->loop, &p->resolve->watch);
    release(p->resolve);
    p->resolve = NULL;
}
