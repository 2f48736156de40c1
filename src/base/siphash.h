#pragma once
/* SipHash-2-4 with 128 bits: a keyed hash of few lines, as a seal on what we get back from somebody
 * who must not have changed it. Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).
 */

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY 16
#define SIPHASH_TAG 16

void siphash128(const uint8_t key[SIPHASH_KEY], const void *bytes, size_t n,
                uint8_t ret_tag[SIPHASH_TAG]);
