#pragma once
/* The sniffers in one table, and the answers to those who are refused. */

#include "wire/sniffed.h"

/* Asks each sniffer; the first DONE or BAD wins, MORE if any still may. Never MORE for
 * SNIFF_BYTES_MAX bytes: that is BAD, TooLarge. Initialises *ret. */
enum sniff_verdict sniff_bytes(struct str in, struct sniffed *ret);
const char *proto_name(enum proto p);

/* What a refused client is sent in its own protocol, written into buf; empty for protocols that
 * have no word for it. `reason` chooses the status; `text` is for people. */
struct str sniff_refusal(const struct sniffed *s, const char *reason, struct str text, char *buf,
                         size_t size);
