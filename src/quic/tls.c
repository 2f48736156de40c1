/* TLS 1.3 by GnuTLS inside of QUIC: our raw Ed25519 key (RFC 7250) as the certificate, the peer's
 * checked here. An identity comes in; sessions go out, owned by their connections. */
#include <gnutls/abstract.h>

#include "quic/internal.h"

/* RFC 8410 4: the SubjectPublicKeyInfo of an Ed25519 key is this and the 32 bytes. */
static const uint8_t spki_prefix[] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                      0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
#define SPKI_BYTES (sizeof spki_prefix + KEY_BYTES)

/* AES first: GnuTLS has no quick ChaCha20. Nothing that the other side could choose badly. */
#define PRIORITY                                                                                   \
    "NONE:+VERS-TLS1.3:+AES-128-GCM:+CHACHA20-POLY1305:+AEAD:+SHA256:+GROUP-X25519"                \
    ":+ECDHE-ECDSA:+SIGN-EDDSA-ED25519:+CTYPE-SRV-RAWPK:+CTYPE-CLI-RAWPK:+COMP-NULL"               \
    ":%DISABLE_TLS13_COMPAT_MODE"

static int peer_key(gnutls_session_t session, struct key *ret_key)
{
    unsigned count = 0;
    const gnutls_datum_t *shown = gnutls_certificate_get_peers(session, &count);
    if (!shown || count != 1 ||
        gnutls_certificate_type_get2(session, GNUTLS_CTYPE_PEERS) != GNUTLS_CRT_RAWPK)
        return -EBADMSG;
    if (shown->size != SPKI_BYTES || memcmp(shown->data, spki_prefix, sizeof spki_prefix) != 0)
        return -EBADMSG;
    memcpy(ret_key->b, shown->data + sizeof spki_prefix, KEY_BYTES);
    return 0;
}

/* The peer has shown a key; that it has the secret half is checked by GnuTLS after this. */
static int verify(gnutls_session_t session)
{
    ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(session);
    struct quic_conn *c = container_of(ref, struct quic_conn, ref);
    struct quic *q = c->quic;
    struct key shown;
    bool fits = peer_key(session, &shown) == 0 &&
                (c->client ? key_equal(&shown, &c->peer) : q->hooks.may_connect(q->ctx, &shown));
    c->refused_key = !fits;
    if (!fits)
        return GNUTLS_E_CERTIFICATE_ERROR;
    c->peer = shown;
    c->known = true;
    return 0;
}

static int own_key(gnutls_certificate_credentials_t credentials, const struct identity *id)
{
    uint8_t spki[SPKI_BYTES];
    memcpy(spki, spki_prefix, sizeof spki_prefix);
    memcpy(spki + sizeof spki_prefix, id->key.b, KEY_BYTES);
    gnutls_datum_t shown = {spki, sizeof spki};
    /* libsodium's secret is the seed and the public half. */
    gnutls_datum_t seed = {(uint8_t *)id->secret, KEY_BYTES};
    gnutls_datum_t public = {(uint8_t *)id->key.b, KEY_BYTES};
    gnutls_pcert_st cert = {0};
    gnutls_privkey_t secret;
    if (gnutls_privkey_init(&secret) < 0)
        return -ENOMEM;
    int r = gnutls_privkey_import_ecc_raw(secret, GNUTLS_ECC_CURVE_ED25519, &public, NULL, &seed);
    if (r >= 0)
        r = gnutls_pcert_import_rawpk_raw(&cert, &shown, GNUTLS_X509_FMT_DER, 0, 0);
    /* Takes over what both point to. */
    if (r >= 0 && gnutls_certificate_set_key(credentials, NULL, 0, &cert, 1, secret) >= 0)
        return 0;
    if (r >= 0)
        gnutls_pcert_deinit(&cert);
    gnutls_privkey_deinit(secret);
    return -EIO;
}

int tls_init(struct tls *t, const struct identity *id)
{
    *t = (struct tls){0};
    if (gnutls_certificate_allocate_credentials(&t->credentials) < 0)
        return -ENOMEM;
    gnutls_certificate_set_verify_function(t->credentials, verify);
    if (gnutls_priority_init(&t->priority, PRIORITY, NULL) < 0)
        return -EIO;
    return own_key(t->credentials, id);
}

void tls_done(struct tls *t)
{
    if (t->priority)
        gnutls_priority_deinit(t->priority);
    if (t->credentials)
        gnutls_certificate_free_credentials(t->credentials);
    *t = (struct tls){0};
}

static ngtcp2_conn *lib_of(ngtcp2_crypto_conn_ref *ref)
{
    return container_of(ref, struct quic_conn, ref)->lib;
}

int tls_begin(struct quic_conn *c)
{
    gnutls_datum_t alpn = {(uint8_t *)QUIC_ALPN, sizeof QUIC_ALPN - 1};
    unsigned flags = GNUTLS_ENABLE_RAWPK | GNUTLS_NO_END_OF_EARLY_DATA | GNUTLS_NO_AUTO_SEND_TICKET;
    if (gnutls_init(&c->tls, flags | (c->client ? GNUTLS_CLIENT : GNUTLS_SERVER)) < 0)
        return -ENOMEM;
    c->ref.get_conn = lib_of;
    gnutls_session_set_ptr(c->tls, &c->ref);
    int r = c->client ? ngtcp2_crypto_gnutls_configure_client_session(c->tls)
                      : ngtcp2_crypto_gnutls_configure_server_session(c->tls);
    if (r != 0 || gnutls_priority_set(c->tls, c->quic->tls.priority) < 0 ||
        gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, c->quic->tls.credentials) < 0 ||
        gnutls_alpn_set_protocols(c->tls, &alpn, 1, GNUTLS_ALPN_MANDATORY) < 0)
        return -EIO;
    if (!c->client)
        gnutls_certificate_server_set_request(c->tls, GNUTLS_CERT_REQUIRE);
    return 0;
}
