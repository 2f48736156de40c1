/* Counts what a user holds, each time anew: nothing can get out of step, and a user who is counted
 * holds little. */
#include "berthd/quota.h"

#include <stdio.h>

static const struct {
    const char *noun;
    size_t max;
} quotas[] = {
    [QUOTA_APPS] = {"applications", USER_APPS_MAX},
    [QUOTA_BINDS] = {"ports of programs", USER_BINDS_MAX},
    [QUOTA_CLAIMS] = {"routes at addresses", USER_CLAIMS_MAX},
};

static size_t held_by_app(const struct app *a, enum quota what)
{
    size_t n = 0;
    if (what == QUOTA_APPS)
        return 1;
    list_for_each(b, &a->binds, struct bind, app_link)
    {
        n += what == QUOTA_BINDS;
        if (what == QUOTA_BINDS)
            list_for_each(member, &b->members, struct bind, member_link) n++;
        if (what == QUOTA_CLAIMS)
            list_for_each(c, &b->claims, struct claim, link) n++;
    }
    return n;
}

int quota_check(const struct server *s, uid_t uid, enum quota what, char reason[REASON_MAX])
{
    size_t n = 0;
    if (s->uid != 0 || uid == 0)
        return 0;
    list_for_each(a, &s->apps, struct app, link) n += a->uid == uid ? held_by_app(a, what) : 0;
    if (n < quotas[what].max)
        return 0;
    (void)snprintf(reason, REASON_MAX, "one user has at most %zu %s", quotas[what].max,
                   quotas[what].noun);
    return -EDQUOT;
}
