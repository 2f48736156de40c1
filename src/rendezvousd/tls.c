/* TLS 1.3 with the server's Ed25519 key as it is (RFC 7250), for peers whose network lets nothing
 * else through, and so that nobody on the way sees more than bytes. Peers show no certificate: what
 * they send has its own proof. Bytes come in and go out; GnuTLS uses the socket itself. */
#include <gnutls/gnutls.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/wr.h"
#include "rendezvousd/thread.h"

#define DER_MAX 64
static const char priority[] = "NONE:+VERS-TLS1.3:+AEAD:+AES-128-GCM:+CHACHA20-POLY1305:"
                               "+AES-256-GCM:+GROUP-X25519:+GROUP-SECP256R1:+SIGN-EDDSA-ED25519:"
                               "+CTYPE-SRV-RAWPK:+CTYPE-CLI-X509";

struct tls_server {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
};

struct tls {
    gnutls_session_t session;
    bool ready;    /* the handshake is over */
    size_t unsent; /* bytes that GnuTLS has taken and not sent yet */
};

/* RFC 8410 4 and 7: the key behind the constant head of its DER form. */
static gnutls_datum_t der(uint8_t buf[DER_MAX], const char *head, size_t n, const uint8_t *key)
{
    struct wr w = wr_init(buf, DER_MAX);
    wr_bytes(&w, head, n);
    wr_bytes(&w, key, KEY_BYTES);
    return (gnutls_datum_t){buf, (unsigned)w.used};
}

static int key_set(gnutls_certificate_credentials_t c, const struct identity *id)
{
    static const char head_public[] = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    static const char head_secret[] =
        "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    uint8_t public[DER_MAX], secret[DER_MAX], seed[KEY_BYTES];
    (void)crypto_sign_ed25519_sk_to_seed(seed, id->secret);
    gnutls_datum_t p = der(public, head_public, sizeof head_public - 1, id->key.b);
    gnutls_datum_t s = der(secret, head_secret, sizeof head_secret - 1, seed);
    int r =
        gnutls_certificate_set_rawpk_key_mem(c, &p, &s, GNUTLS_X509_FMT_DER, NULL, 0, NULL, 0, 0);
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(seed, sizeof seed);
    return r;
}

struct tls_server *tls_server_new(const struct identity *id)
{
    struct tls_server *s = calloc(1, sizeof *s);
    if (s && gnutls_certificate_allocate_credentials(&s->credentials) == 0 &&
        gnutls_priority_init(&s->priority, priority, NULL) == 0 && key_set(s->credentials, id) >= 0)
        return s;
    tls_server_free(s);
    return NULL;
}

void tls_server_free(struct tls_server *s)
{
    if (!s)
        return;
    if (s->credentials)
        gnutls_certificate_free_credentials(s->credentials);
    if (s->priority)
        gnutls_priority_deinit(s->priority);
    free(s);
}

struct tls *tls_new(const struct tls_server *s, int fd)
{
    const unsigned flags = GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
                           GNUTLS_ENABLE_RAWPK | GNUTLS_NO_TICKETS;
    struct tls *t = calloc(1, sizeof *t);
    if (!t || gnutls_init(&t->session, flags) != 0) {
        free(t);
        return NULL;
    }
    if (gnutls_priority_set(t->session, s->priority) != 0 ||
        gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, s->credentials) != 0) {
        tls_free(t);
        return NULL;
    }
    gnutls_transport_set_int(t->session, fd);
    return t;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    gnutls_deinit(t->session);
    free(t);
}

/* Interrupted, or a warning: once more, later. */
static ssize_t error_of(ssize_t r)
{
    return r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED || !gnutls_error_is_fatal((int)r)
               ? -EAGAIN
               : -EPROTO;
}

static int handshake(struct tls *t)
{
    if (t->ready)
        return 0;
    int r = gnutls_handshake(t->session);
    if (r < 0)
        return (int)error_of(r);
    t->ready = true;
    return 0;
}

ssize_t tls_recv(struct tls *t, void *buf, size_t size)
{
    int e = handshake(t);
    if (e < 0)
        return e;
    ssize_t r = gnutls_record_recv(t->session, buf, size);
    return r < 0 ? error_of(r) : r;
}

ssize_t tls_send(struct tls *t, const void *bytes, size_t n)
{
    if (!t->ready)
        return -EAGAIN;
    /* What was taken before is to be sent first, and only then counts as sent. */
    ssize_t r = t->unsent ? gnutls_record_send(t->session, NULL, 0)
                          : gnutls_record_send(t->session, bytes, n);
    if (r >= 0) {
        t->unsent = 0;
        return r;
    }
    ssize_t e = error_of(r);
    if (e == -EAGAIN)
        t->unsent = n;
    return e;
}

bool tls_has_more(const struct tls *t)
{
    return gnutls_record_check_pending(t->session) > 0;
}

bool tls_waits_to_send(const struct tls *t)
{
    return !t->ready && gnutls_record_get_direction(t->session) == 1;
}
