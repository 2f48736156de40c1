#pragma once
/* Hosts and paths of requests, brought to the one form that routes are compared with. The results
 * are kept in the scratch of `s`. All return 0, or -EBADMSG for what no server should be shown. */

#include "base/fd.h"
#include "base/str.h"
#include "wire/sniffed.h"

/* RFC 1035 2.3.4: labels 63 octets or less, names 255 octets or less (253 as text). */
#define URI_LABEL_MAX 63
#define URI_NAME_MAX  253

/* A DNS name without a port: lower case, without the final dot. An underscore is let through. */
int uri_name(struct str raw, struct sniffed *s, struct str *ret_host) WARN_UNUSED;
/* `name`, `name:port`, `[v6]`, `[v6]:port`. IPv6 loses its brackets and gets its shortest form. */
int uri_host(struct str raw, struct sniffed *s, struct str *ret_host) WARN_UNUSED;
/* A path that begins with a slash and has no query. What RFC 3986 2.3 calls unreserved is
 * percent-decoded, then `.` and `..` are resolved, never above "/". A path longer than the scratch
 * is cut behind a whole segment, with a final slash. */
int uri_path(struct str raw, struct sniffed *s, struct str *ret_path) WARN_UNUSED;
/* How many bytes in front are what methods and field names are made of (RFC 9110 5.6.2). */
size_t uri_token_span(struct str s);
