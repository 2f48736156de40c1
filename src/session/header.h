#pragma once
/* What stands at the beginning of a stream: version 1, the length of the service's name, the name.
 * Pure. */

#include <stdint.h>

#include "base/fd.h"
#include "base/str.h"

#define STREAM_VERSION     1
#define STREAM_SERVICE_MAX 63
#define STREAM_HEADER_MAX  (2 + STREAM_SERVICE_MAX)

/* A name is one to 63 characters of ASCII, all visible. */
bool stream_service_is_fit(struct str service);
/* The length of the header of a fit name. */
size_t stream_header_encode(struct str service, uint8_t buf[STREAM_HEADER_MAX]);
/* 0; -EAGAIN: more bytes are needed; -EBADMSG: no header. The name points into the bytes. */
int stream_header_decode(const void *bytes, size_t n, struct str *ret_service,
                         size_t *ret_size) WARN_UNUSED;
