/* Looks through the remotes and sessions that are there, and ends those of the quietest. All belong
 * to others. */
#include "peerd/crowd.h"

#include "peerd/dial.h"
#include "peerd/peerd.h"

static bool is_stranger(const struct peerd *p, const struct remote *r)
{
    return !r->known && !state_lists(&p->state, &r->key);
}

static bool is_in_use(const struct remote *r)
{
    return r->session || r->early || r->calling || dials_waiting(r);
}

static struct remote *quietest(struct peerd *p, bool strangers)
{
    struct remote *found = NULL;
    list_for_each(r, &p->remotes, struct remote, link)
    {
        bool quieter = !found || r->quiet_ms < found->quiet_ms;
        if (quieter && !is_in_use(r) && is_stranger(p, r) == strangers)
            found = r;
    }
    return found;
}

bool crowd_make_room(struct peerd *p, const struct remote *newcomer)
{
    struct remote *r = quietest(p, true);
    if (!r && !is_stranger(p, newcomer))
        r = quietest(p, false);
    if (r)
        remote_free(r);
    return r != NULL;
}

/* One that a stranger made; `*ret_quietest`: of those without streams, whose remote has been quiet
 * for longest. */
static size_t sessions_of_strangers(struct peerd *p, struct session **ret_quietest)
{
    struct endpoint *e = p->net.endpoint;
    const struct remote *found = NULL;
    size_t count = 0;
    for (struct session *s = NULL; (s = endpoint_next(e, s));) {
        const struct remote *r = session_user(s);
        if (!r || session_is_client(s) || !is_stranger(p, r))
            continue;
        count++;
        if (found && r->quiet_ms >= found->quiet_ms)
            continue;
        struct session_stats stats;
        session_stat(s, &stats);
        if (stats.streams > 0)
            continue;
        found = r;
        *ret_quietest = s;
    }
    return count;
}

bool crowd_admits(struct peerd *p, const struct remote *r, const struct session *s, size_t most)
{
    struct endpoint_stats all;
    struct session *quietest_one = NULL;
    endpoint_stat(p->net.endpoint, &all);
    if (all.sessions <= most || session_is_client(s) || !is_stranger(p, r))
        return true;
    if (sessions_of_strangers(p, &quietest_one) < most)
        return true;
    if (!quietest_one)
        return false;
    session_close(quietest_one, "Busy");
    return true;
}
