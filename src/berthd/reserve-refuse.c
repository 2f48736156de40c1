/* A name that is reserved and not served answers for itself: for each listener that has the
 * reservation's port, and on which names are looked for, dispatch is told a claim without a queue,
 * which refuses. So nobody with a wilder route gets what is meant for the owner. Before each COMMIT
 * the claims are made to follow what has changed. */
#include <stdlib.h>

#include "base/log.h"
#include "berthd/reserve.h"

struct refusal {
    struct list link; /* of its reservation */
    uint32_t id;      /* of the claim */
    const struct reservation *reservation;
    const struct shared_listener *listener; /* borrowed: reserve_refuse_listener_gone() */
    bool wanted;
};

static struct route route_at(const struct reservation *r, const struct shared_listener *l)
{
    struct route route = r->route;
    route.port = addr_port(&l->bound);
    return route;
}

static void refusal_free(struct server *s, struct refusal *f)
{
    dispatch_drop(s, DISPATCH_DROP_CLAIM, f->id);
    numbers_give(&s->claim_numbers, f->id);
    list_remove(&f->link);
    free(f);
}

static void refusal_tell(struct server *s, const struct refusal *f)
{
    struct route route = route_at(f->reservation, f->listener);
    dispatch_refusal(s, f->id, &route, f->listener, f->reservation->status);
}

static struct refusal *refusal_find(const struct reservation *r, const struct shared_listener *l)
{
    list_for_each(f, &r->refusals, struct refusal, link) if (f->listener == l) return f;
    return NULL;
}

static void refusal_make(struct server *s, struct reservation *r, const struct shared_listener *l)
{
    struct refusal *f = calloc(1, sizeof *f);
    if (f)
        f->id = numbers_take(&s->claim_numbers);
    if (!f || f->id == UINT32_MAX) {
        log_error("a reserved name does not answer reason=Limit");
        free(f);
        return;
    }
    f->reservation = r;
    f->listener = l;
    f->wanted = true;
    list_append(&r->refusals, &f->link);
    refusal_tell(s, f);
}

/* A reservation of the very route that names the port speaks for this one, too. */
static bool is_wanted(struct server *s, const struct reservation *r,
                      const struct shared_listener *l)
{
    uint16_t port = addr_port(&l->bound);
    if (!l->listening || !l->named || (r->route.port && r->route.port != port))
        return false;
    struct route route = route_at(r, l);
    if (r->route.port == 0 && port && reserve_table_find(&s->reserve->table, &route))
        return false;
    return !claim_serving(s, &route, &l->bound);
}

static void reservation_update(struct server *s, struct reservation *r)
{
    list_for_each(f, &r->refusals, struct refusal, link) f->wanted = false;
    list_for_each(l, &s->listeners, struct shared_listener, link)
    {
        if (!is_wanted(s, r, l))
            continue;
        struct refusal *f = refusal_find(r, l);
        if (f)
            f->wanted = true;
        else
            refusal_make(s, r, l);
    }
    list_for_each(f, &r->refusals, struct refusal, link) if (!f->wanted) refusal_free(s, f);
}

/* Where addresses alone decide, no name is ever looked for. */
static void listeners_mark(struct server *s)
{
    list_for_each(l, &s->listeners, struct shared_listener, link) l->named = false;
    list_for_each(b, &s->binds, struct bind, link) if (b->listening)
        list_for_each(c, &b->claims, struct claim, link)
            c->listener->named |= c->scheme != SCHEME_TCP;
}

void reserve_refuse_update(struct server *s)
{
    struct reserve *v = s->reserve;
    if (!v->stale)
        return;
    if (v->table.count > 0)
        listeners_mark(s);
    list_for_each(r, &v->table.all, struct reservation, link) reservation_update(s, r);
    v->stale = false; /* Telling dispatch of them has set it. */
}

void reserve_refuse_tell(struct server *s)
{
    list_for_each(r, &s->reserve->table.all, struct reservation, link)
        list_for_each(f, &r->refusals, struct refusal, link) refusal_tell(s, f);
}

void reserve_refuse_forget(struct server *s, struct reservation *r)
{
    list_for_each(f, &r->refusals, struct refusal, link) refusal_free(s, f);
    s->reserve->stale = true;
}

void reserve_refuse_listener_gone(struct server *s, const struct shared_listener *l)
{
    list_for_each(r, &s->reserve->table.all, struct reservation, link)
    {
        struct refusal *f = refusal_find(r, l);
        if (f)
            refusal_free(s, f);
    }
}
