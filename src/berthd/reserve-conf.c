/* Reservations and the policy for unreserved names, as the configuration says. The reader has
 * checked every word; a user who was deleted since keeps his names closed, and nobody has them. */
#include <pwd.h>
#include <stdlib.h>

#include "base/log.h"
#include "berthd/reserve.h"
#include "conf/conf.h"

static uid_t user_number(const char *user)
{
    char *end;
    unsigned long v = strtoul(user, &end, 10);
    if (ascii_is_digit(user[0]) && !*end && v < RESERVE_NOBODY)
        return (uid_t)v;
    struct passwd *pw = getpwnam(user);
    if (!pw)
        log_warn("a name is reserved for a user who does not exist user=%s", user);
    return pw ? pw->pw_uid : RESERVE_NOBODY;
}

static size_t entries_make(const struct conf_reserve *r, struct reserve_entry *entries)
{
    struct route routes[2];
    char reason[ROUTE_REASON_MAX];
    int n = route_expand(r->route, routes, reason);
    uid_t uid = n > 0 ? user_number(r->user) : RESERVE_NOBODY;
    for (int i = 0; i < n; i++)
        entries[i] = (struct reserve_entry){
            .route = routes[i], .uid = uid, .delegate = r->delegate, .status = (uint16_t)r->status};
    return n > 0 ? (size_t)n : 0;
}

void reserve_from_conf(struct server *s, const struct conf *c)
{
    static const enum unreserved policies[] = {
        [CONF_UNRESERVED_LOCALHOST] = UNRESERVED_LOCALHOST,
        [CONF_UNRESERVED_ANYONE] = UNRESERVED_ANYONE,
        [CONF_UNRESERVED_ROOT] = UNRESERVED_ROOT,
    };
    size_t count = 0;
    struct reserve_entry *entries = calloc(2 * c->reserve_count + 1, sizeof *entries);
    for (size_t i = 0; entries && i < c->reserve_count; i++)
        count += entries_make(&c->reserves[i], entries + count);
    int r = entries ? reserve_set_configured(s, entries, count) : -ENOMEM;
    if (r < 0)
        log_error("reservations not taken over err=%s", strerror(-r));
    free(entries);
    if (!s->reserve->chosen)
        reserve_set_unreserved(s, policies[c->global.unreserved]);
}
