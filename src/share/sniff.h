#pragma once
/* All sniffers behind one call, and what a client that is refused is told in its own protocol. */

#include "base/str.h"
#include "share/reason.h"
#include "wire/sniffed.h"

/* `in` is everything that has arrived so far; of more than SNIFF_BYTES_MAX bytes only so many are
 * looked at. DONE and BAD fill *ret. MORE: ret->proto is the first protocol that it may become.
 * NOT: ret->proto is PROTO_NONE. A full buffer that still asks for more is BAD with "TooLarge". */
enum sniff_verdict sniff_bytes(struct str in, struct sniffed *ret);

/* "http", "h2", "tls", ...; "none" for PROTO_NONE and for numbers that are no protocol. */
const char *proto_name(enum proto proto);

/* The bytes to send before a refused client is closed, written to buf; empty when its protocol has
 * no word for it, or when buf is too small. `text` is for people, and is cut where it does not
 * fit. */
struct str sniff_refusal(const struct sniffed *s, const struct refusal *why, struct str text,
                         char *buf, size_t size);
