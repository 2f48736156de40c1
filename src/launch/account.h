#pragma once
/* Who a program is to run as: a user and a group by name or number, looked up before anything is
 * forked, as the look-up may load libraries, take locks and ask other services. */

#include <stdbool.h>
#include <sys/types.h>

#include "base/fd.h"

#define ACCOUNT_REASON_MAX 256

struct account {
    bool is_own; /* what this process is already: nothing is to be changed */
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* owned */
    int group_count;
    char *text;                      /* owned: where the following point to */
    const char *name, *home, *shell; /* NULL: a number without an entry in the user database */
};

/* Names or numbers. Without a user: this process's own; without a group: the user's own. Negative
 * errno and a sentence: -ENOENT when there is no such user or group. */
int account_find(const char *user, const char *group, struct account *ret_account,
                 char ret_reason[ACCOUNT_REASON_MAX]) WARN_UNUSED;
void account_done(struct account *a);
