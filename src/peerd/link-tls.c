/* TLS 1.3 over TCP to a server, for networks that let no UDP through: the same messages and relay
 * packets, each behind a 16-bit length. The server's Ed25519 key is its certificate (RFC 7250), and
 * must be what it was when the server was first seen. Frames come in and go out; the connection,
 * its buffers and its session are owned by the struct, and the struct by its site. */
#include <gnutls/gnutls.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>

#include "peerd/link-internal.h"
#include "peerd/tcpport.h"

#define PREFIX 2
/* For TCP and TLS together. */
#define BEGIN_MS 6000
/* What is sent and not acknowledged for so long ends the connection. */
#define USER_TIMEOUT_MS 10000
/* Relay packets are dropped above the first; messages above the second. */
#define OUT_DATA_MAX (96 << 10)
#define OUT_MAX      (128 << 10)
/* Reads before others have a turn. */
#define READS 32

static const char priority[] = "NONE:+VERS-TLS1.3:+AEAD:+AES-128-GCM:+CHACHA20-POLY1305:"
                               "+AES-256-GCM:+GROUP-X25519:+GROUP-SECP256R1:+SIGN-EDDSA-ED25519:"
                               "+CTYPE-SRV-RAWPK:+CTYPE-CLI-X509";

struct tls_client {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
};

enum tls_state { TLS_CONNECT, TLS_HANDSHAKE, TLS_UP };

struct link_tls {
    struct site *site;
    struct watch watch;
    struct timer limit; /* until it is up; then: to be closed */
    int fd;             /* owned */
    gnutls_session_t session;
    enum tls_state state;
    uint32_t events;
    bool taken; /* GnuTLS has taken bytes that it could not send yet */
    bool own_port;
    size_t in_used, out_used;
    uint8_t in[PREFIX + RELAY_MAX];
    uint8_t out[OUT_MAX];
};

static struct tls_client *client_new(void)
{
    struct tls_client *c = calloc(1, sizeof *c);
    if (c && gnutls_certificate_allocate_credentials(&c->credentials) == 0 &&
        gnutls_priority_init(&c->priority, priority, NULL) == 0)
        return c;
    link_tls_client_free(c);
    return NULL;
}

void link_tls_client_free(struct tls_client *c)
{
    if (!c)
        return;
    if (c->credentials)
        gnutls_certificate_free_credentials(c->credentials);
    if (c->priority)
        gnutls_priority_deinit(c->priority);
    free(c);
}

static void events_set(struct link_tls *t)
{
    uint32_t events = EPOLLIN;
    if (t->state == TLS_CONNECT)
        events = EPOLLOUT;
    else if (t->state == TLS_HANDSHAKE && gnutls_record_get_direction(t->session) == 1)
        events = EPOLLOUT;
    else if (t->state == TLS_UP && t->out_used > 0)
        events |= EPOLLOUT;
    struct epoll_event e = {.events = events, .data.ptr = &t->watch};
    if (events == t->events)
        return;
    t->events = events;
    (void)epoll_ctl(t->site->link->loop->epoll_fd, EPOLL_CTL_MOD, t->fd, &e);
}

void link_tls_stop(struct site *p)
{
    struct link_tls *t = p->tls;
    if (!t)
        return;
    p->tls = NULL;
    loop_unwatch(p->link->loop, &t->watch);
    loop_untimer(&t->limit);
    if (t->session && t->state == TLS_UP)
        (void)gnutls_bye(t->session, GNUTLS_SHUT_WR);
    if (t->session)
        gnutls_deinit(t->session);
    t->fd = fd_close(t->fd);
    free(t);
}

static void fail(struct link_tls *t, const char *why)
{
    struct site *p = t->site;
    link_tls_stop(p);
    site_tls_down(p, why);
}

static void limit_fires(struct timer *timer)
{
    struct link_tls *t = container_of(timer, struct link_tls, limit);
    fail(t, t->state == TLS_CONNECT ? "no answer to TCP" : "the handshake takes too long");
}

/* RFC 8410 4: the key behind the constant head of its DER form. */
static int server_key(const struct link_tls *t, struct key *ret_key)
{
    static const char head[] = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    enum { HEAD = sizeof head - 1 };
    unsigned n = 0;
    if (gnutls_certificate_type_get2(t->session, GNUTLS_CTYPE_SERVER) != GNUTLS_CRT_RAWPK)
        return -EKEYREJECTED;
    const gnutls_datum_t *certs = gnutls_certificate_get_peers(t->session, &n);
    if (!certs || n != 1 || certs->size != HEAD + KEY_BYTES || memcmp(certs->data, head, HEAD) != 0)
        return -EKEYREJECTED;
    memcpy(ret_key->b, certs->data + HEAD, KEY_BYTES);
    return 0;
}

static bool server_known(struct link_tls *t)
{
    struct site *p = t->site;
    struct key key, was;
    char now_text[KEY_TEXT_MAX], was_text[KEY_TEXT_MAX], why[256];
    if (server_key(t, &key) < 0) {
        fail(t, "it shows no Ed25519 key");
        return false;
    }
    int r = known_server_check(p->link->known_servers, p->name, &key, &was);
    if (r == 0)
        return true;
    if (r == -EKEYREJECTED)
        (void)snprintf(why, sizeof why, "its key is %s, but was %s", key_format(&key, now_text),
                       key_format(&was, was_text));
    else
        (void)snprintf(why, sizeof why, "%s: %s", p->link->known_servers, strerror(-r));
    fail(t, why);
    return false;
}

/* All whole frames. False: the connection is gone, by what one of them did, or is to go. */
static bool frames_take(struct link_tls *t)
{
    struct site *p = t->site;
    struct rd r = rd_init(t->in, t->in_used);
    for (;;) {
        struct rd at = r;
        size_t n = rd_u16(&at);
        if (rd_ok(&at) && n > RELAY_MAX) {
            fail(t, "what it sends makes no sense");
            return false;
        }
        struct str frame = rd_bytes(&at, n);
        if (!rd_ok(&at))
            break;
        r = at;
        site_input(p, frame.p, frame.n);
        if (p->tls != t)
            return false;
    }
    if (r.left > 0)
        memmove(t->in, r.p, r.left);
    t->in_used = r.left;
    return true;
}

static bool is_fatal(ssize_t r)
{
    return r != GNUTLS_E_AGAIN && r != GNUTLS_E_INTERRUPTED && gnutls_error_is_fatal((int)r);
}

static bool read_some(struct link_tls *t)
{
    for (int i = 0; i < READS || gnutls_record_check_pending(t->session) > 0; i++) {
        ssize_t r = gnutls_record_recv(t->session, t->in + t->in_used, sizeof t->in - t->in_used);
        if (r == 0 || (r < 0 && is_fatal(r))) {
            fail(t, r == 0 ? "it has closed the connection" : gnutls_strerror((int)r));
            return false;
        }
        if (r < 0)
            return true;
        t->in_used += (size_t)r;
        if (!frames_take(t))
            return false;
    }
    return true;
}

static bool write_some(struct link_tls *t)
{
    while (t->out_used > 0) {
        ssize_t r = t->taken ? gnutls_record_send(t->session, NULL, 0)
                             : gnutls_record_send(t->session, t->out, t->out_used);
        if (r < 0 && is_fatal(r)) {
            fail(t, gnutls_strerror((int)r));
            return false;
        }
        t->taken = r < 0;
        if (r < 0)
            return true;
        t->out_used -= (size_t)r;
        memmove(t->out, t->out + r, t->out_used);
    }
    return true;
}

static int session_new(struct link_tls *t)
{
    struct link *l = t->site->link;
    const unsigned flags = GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_ENABLE_RAWPK;
    if (!l->client)
        l->client = client_new();
    if (!l->client || gnutls_init(&t->session, flags) != 0)
        return -ENOMEM;
    if (gnutls_priority_set(t->session, l->client->priority) != 0 ||
        gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, l->client->credentials) != 0)
        return -EINVAL;
    gnutls_transport_set_int(t->session, t->fd);
    return 0;
}

/* One function for each state: false, the struct is gone. */
static bool connected(struct link_tls *t)
{
    int r = tcpport_result(t->fd);
    if (r < 0) {
        fail(t, strerror(-r));
        return false;
    }
    t->state = TLS_HANDSHAKE;
    return true;
}

static bool shake(struct link_tls *t)
{
    int r = gnutls_handshake(t->session);
    if (r < 0 && is_fatal(r)) {
        fail(t, gnutls_strerror(r));
        return false;
    }
    if (r < 0)
        return true;
    if (!server_known(t))
        return false;
    struct site *p = t->site;
    t->state = TLS_UP;
    loop_untimer(&t->limit);
    site_tls_up(p);
    return p->tls == t;
}

static void ready(struct watch *w, uint32_t events)
{
    struct link_tls *t = container_of(w, struct link_tls, watch);
    (void)events;
    if (t->state == TLS_CONNECT && !connected(t))
        return;
    if (t->state == TLS_HANDSHAKE && !shake(t))
        return;
    if (t->state == TLS_UP && (!read_some(t) || !write_some(t)))
        return;
    events_set(t);
}

/* What was connected from the own port may not have ended at the server yet, or in a NAT. */
static int tcp_connect(struct link_tls *t, const struct addr *to)
{
    const struct link *l = t->site->link;
    bool own = l->host.tcp_connect && !t->site->any_port && t->site->way.relay.len == 0;
    int fd = own ? l->host.tcp_connect(l->ctx, to) : -EADDRNOTAVAIL;
    t->own_port = fd >= 0;
    return fd >= 0 ? fd : tcpport_connect(0, to);
}

static int begin(struct link_tls *t, const struct addr *to)
{
    const int on = 1, timeout_ms = USER_TIMEOUT_MS;
    t->fd = tcp_connect(t, to);
    if (t->fd < 0)
        return t->fd;
    (void)setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(t->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    int r = session_new(t);
    if (r < 0)
        return r;
    t->events = EPOLLOUT;
    return loop_watch(t->site->link->loop, &t->watch, t->fd, t->events);
}

int link_tls_start(struct site *p, const struct addr *to)
{
    struct link_tls *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    t->site = p;
    t->fd = t->watch.fd = -EBADF;
    t->watch.ready = ready;
    t->limit.fire = limit_fires;
    p->tls = t;
    int r = begin(t, to);
    if (r < 0) {
        link_tls_stop(p);
        return r;
    }
    loop_timer(p->link->loop, &t->limit, BEGIN_MS);
    return 0;
}

bool link_tls_has_own_port(const struct link_tls *t)
{
    return t && t->own_port;
}

/* Written when the socket is looked at next, together with what else comes until then. */
int link_tls_send(struct link_tls *t, struct str head, struct str body)
{
    size_t n = head.n + body.n, most = head.n > 0 ? OUT_DATA_MAX : OUT_MAX;
    if (t->state != TLS_UP || n > UINT16_MAX || t->out_used + PREFIX + n > most)
        return -EAGAIN;
    struct wr w = wr_init(t->out + t->out_used, OUT_MAX - t->out_used);
    wr_u16(&w, (uint16_t)n);
    wr_bytes(&w, head.p, head.n);
    wr_bytes(&w, body.p, body.n);
    t->out_used += w.used;
    events_set(t);
    return 0;
}
