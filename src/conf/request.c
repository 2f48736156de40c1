/* A request as people write it, into what a sniffer finds. HTTP goes through the sniffer itself, so
 * that paths and hosts come out as they do in dispatch; the names in other protocols are put where
 * their sniffers put them. */
#include "conf/request.h"

#include <arpa/inet.h>
#include <errno.h>

static const struct {
    uint16_t port;
    enum proto proto;
} usual[SCHEME_COUNT] = {
    [SCHEME_HTTP] = {80, PROTO_HTTP},     [SCHEME_TLS] = {443, PROTO_TLS},
    [SCHEME_SSH] = {22, PROTO_SSH},       [SCHEME_SOCKS] = {1080, PROTO_SOCKS},
    [SCHEME_RDP] = {3389, PROTO_RDP},     [SCHEME_POSTGRES] = {5432, PROTO_POSTGRES},
    [SCHEME_REDIS] = {6379, PROTO_REDIS}, [SCHEME_MQTT] = {1883, PROTO_MQTT},
    [SCHEME_XMPP] = {5222, PROTO_XMPP},
};

#define SYNTAX "[METHOD] URL [at ADDRESS] [from ADDRESS], as in \"GET http://a.example/x\""

static int fail(char *reason, size_t size, const char *sentence)
{
    (void)snprintf(reason, size, "%s", sentence);
    return -EINVAL;
}

/* An address with or without a port. */
static int address_parse(const char *text, struct addr *ret_addr)
{
    uint8_t ip[16];
    if (inet_pton(AF_INET, text, ip) == 1)
        *ret_addr = addr_make(AF_INET, ip, 0);
    else if (inet_pton(AF_INET6, text, ip) == 1)
        *ret_addr = addr_make(AF_INET6, ip, 0);
    else
        return addr_parse(text, ret_addr);
    return 0;
}

static bool is_method(const char *word)
{
    for (const char *c = word; *c; c++)
        if (*c < 'A' || *c > 'Z')
            return false;
    return *word != 0;
}

static int words_read(struct conf_request *q, char *words, char *reason, size_t size)
{
    char *save, *word = strtok_r(words, " \t", &save);
    if (word && is_method(word) && strlen(word) < sizeof q->method) {
        memcpy(q->method, word, strlen(word) + 1);
        word = strtok_r(NULL, " \t", &save);
    }
    if (!word || !strstr(word, "://"))
        return fail(reason, size, "there is no URL in it: write " SYNTAX);
    memcpy(q->url, word, strlen(word) + 1);
    while ((word = strtok_r(NULL, " \t", &save))) {
        char *value = strtok_r(NULL, " \t", &save);
        bool at = strcmp(word, "at") == 0;
        if ((!at && strcmp(word, "from") != 0) || !value)
            return fail(reason, size, "only at ADDRESS and from ADDRESS follow the URL: " SYNTAX);
        if (address_parse(value, at ? &q->at : &q->from) < 0)
            return fail(reason, size, "after at and from stands an address: 10.0.0.7, [::1]:80");
    }
    return 0;
}

/* What an HTTP client sends for http://HOST/PATH?QUERY. */
static void head_make(struct conf_request *q)
{
    const char *authority = strstr(q->url, "://") + 3;
    size_t n = strcspn(authority, "/?#");
    const char *target = authority + n, *end = target + strcspn(target, "#");
    q->head_len =
        (size_t)snprintf(q->head, sizeof q->head, "%s %s%.*s HTTP/1.1\r\nHost: %.*s\r\n\r\n",
                         q->method[0] ? q->method : "GET", *target == '/' ? "" : "/",
                         (int)(end - target), target, (int)n, authority);
}

/* The URL as a route: https is TLS to whoever only passes it on, and an HTTP path is the sniffer's
 * business. */
static int url_parse(struct conf_request *q, char *reason, size_t size)
{
    char text[CONF_REQUEST_MAX + 8], why[ROUTE_REASON_MAX];
    size_t scheme = (size_t)(strstr(q->url, "://") - q->url);
    const char *rest = q->url + scheme;
    bool https = q->https = scheme == 5 && strncasecmp(q->url, "https", 5) == 0;
    bool http = scheme == 4 && strncasecmp(q->url, "http", 4) == 0;
    size_t n = http || https ? 3 + strcspn(rest + 3, "/?#") : strlen(rest);
    (void)snprintf(text, sizeof text, "%.*s%.*s", https ? 3 : (int)scheme, https ? "tls" : q->url,
                   (int)n, rest);
    if (route_parse(text, &q->route, why) < 0)
        return fail(reason, size, why);
    if (q->route.kind == HOST_LABEL || q->route.kind == HOST_STRONG)
        return fail(reason, size, "a request is for one host: write a name without *. or +");
    q->port = q->route.port ? q->route.port : usual[q->route.scheme].port;
    if (q->at.sa.sa_family != AF_UNSPEC && addr_port(&q->at))
        q->port = addr_port(&q->at);
    if (http)
        head_make(q);
    if (q->route.scheme == SCHEME_PREFIX) {
        q->head_len = q->route.path_len;
        memcpy(q->head, q->route.path, q->head_len);
    }
    return 0;
}

int conf_request_parse(const char *text, struct conf_request *ret_request, char *reason,
                       size_t reason_size)
{
    char words[CONF_REQUEST_MAX];
    *ret_request = (struct conf_request){0};
    if (strlen(text) >= sizeof words)
        return fail(reason, reason_size, "the request is too long");
    for (const char *c = text; *c; c++)
        if ((uint8_t)*c < ' ' && *c != '\t')
            return fail(reason, reason_size, "the request has a control character");
    memcpy(words, text, strlen(text) + 1);
    int r = words_read(ret_request, words, reason, reason_size);
    return r < 0 ? r : url_parse(ret_request, reason, reason_size);
}

enum sniff_verdict conf_request_sniff(const struct conf_request *q, struct sniffed *ret_sniffed)
{
    const struct route *r = &q->route;
    if (r->scheme == SCHEME_HTTP)
        return http1_sniff((struct str){q->head, q->head_len}, ret_sniffed);
    memset(ret_sniffed, 0, sizeof *ret_sniffed);
    ret_sniffed->proto = usual[r->scheme].proto;
    if (r->kind == HOST_NAME)
        ret_sniffed->host = str_of(r->host);
    ret_sniffed->user = str_of(r->user);
    if (r->scheme == SCHEME_POSTGRES)
        ret_sniffed->database = (struct str){r->path, r->path_len};
    if (q->https) { /* what browsers offer */
        ret_sniffed->alpn[ret_sniffed->alpn_count++] = STR("h2");
        ret_sniffed->alpn[ret_sniffed->alpn_count++] = STR("http/1.1");
    }
    if (r->alpn[0])
        ret_sniffed->alpn[ret_sniffed->alpn_count++] = str_of(r->alpn);
    return ret_sniffed->proto == PROTO_NONE ? SNIFF_NOT : SNIFF_DONE;
}
