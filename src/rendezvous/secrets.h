#pragma once
/* Cookies, tokens and words: keyed hashes that only this server can make, so it need not remember
 * to whom it gave which. All keys are derived from one master, so threads agree without talking;
 * those of cookies and tokens from the clock, too, and two of them are good at a time. One struct
 * for each thread. */

#include "base/addr.h"
#include "wire/rdvmsg.h"

#define SECRETS_MASTER   32
#define SECRETS_PERIOD_S 120 /* what was made is good for one to two periods */

struct secrets {
    uint8_t master[SECRETS_MASTER];
    uint64_t period;
    uint8_t keys[2][32]; /* this period's, the last one's */
    uint8_t word_key[32];
};

void secrets_init(struct secrets *s, const uint8_t master[SECRETS_MASTER]);
/* Comes before the others, with the time. */
void secrets_turn(struct secrets *s, uint64_t now_ms);

/* A cookie proves that its owner receives at this address. */
void secrets_cookie(const struct secrets *s, const struct addr *a, uint8_t ret[RDVMSG_COOKIE]);
bool secrets_cookie_good(const struct secrets *s, const struct addr *a,
                         const uint8_t cookie[RDVMSG_COOKIE]);
/* A token proves that its owner signed in with this key from this address. ret_next is the one to
 * give out for the next time. */
void secrets_token(const struct secrets *s, const uint8_t key[RDVMSG_KEY], const struct addr *a,
                   uint8_t ret[RDVMSG_COOKIE]);
bool secrets_token_good(const struct secrets *s, const uint8_t key[RDVMSG_KEY],
                        const struct addr *a, const uint8_t token[RDVMSG_COOKIE],
                        uint8_t ret_next[RDVMSG_COOKIE]);
/* What this server tells whoever is registered with this key at this address, and nobody else: what
 * comes unasked shows it. It stays the same for as long as the server lives. */
uint64_t secrets_word(const struct secrets *s, const uint8_t key[RDVMSG_KEY], const struct addr *a);
