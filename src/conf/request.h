#pragma once
/* "GET http://a.example/x at 10.0.0.1:80 from 10.0.0.7", taken apart. */

#include "conf/conf.h"
#include "wire/sniffed.h"

#define CONF_REQUEST_MAX 2048

struct conf_request {
    char url[CONF_REQUEST_MAX];
    char method[32];      /* empty: none was said */
    struct addr at, from; /* AF_UNSPEC: not said; the port of `at` may be 0 */
    bool https;
    struct route route;                /* the URL without the path of a request */
    uint16_t port;                     /* of the URL, or its scheme's usual one; 0: none */
    char head[CONF_REQUEST_MAX + 512]; /* what the client would send first, where we know it */
    size_t head_len;
};

int conf_request_parse(const char *text, struct conf_request *ret_request, char *reason,
                       size_t reason_size) WARN_UNUSED;
/* As dispatch would see it. SNIFF_BAD: it would refuse it for ret_sniffed->reason. */
enum sniff_verdict conf_request_sniff(const struct conf_request *q, struct sniffed *ret_sniffed);
