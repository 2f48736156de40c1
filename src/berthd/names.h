#pragma once
/* Names of users, for people. A network directory may be slow or away, and berthd must not wait for
 * it again and again. */

#include <stddef.h>
#include <sys/types.h>

#define NAME_MAX_CHARS 64

struct names;

/* NULL when memory is short; names_user() then gives numbers. */
struct names *names_new(void);
void names_free(struct names *n);
/* The user's name, or his number as text. Returns buf. */
const char *names_user(struct names *n, uid_t uid, char buf[NAME_MAX_CHARS]);
