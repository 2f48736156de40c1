#pragma once
/* Which key holds which name, all of it in memory for those who ask, from any thread. names-store.h
 * keeps them; with Redis they are there, and nothing is here. */

#include "wire/rdvmsg.h"

struct names;

struct names *names_new(size_t names_max);
void names_free(struct names *n);
/* False when nobody holds it. */
bool names_find(struct names *n, struct str name, uint8_t ret_key[RDVMSG_KEY], uint64_t *ret_since);
/* Adds it or gives it to another key. -ENOMEM. */
int names_put(struct names *n, struct str name, const uint8_t key[RDVMSG_KEY],
              uint64_t since) WARN_UNUSED;
void names_remove(struct names *n, struct str name);
size_t names_count(struct names *n);
bool names_full(struct names *n);
