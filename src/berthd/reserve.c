/* Who may claim what. In the system's berthd every local user may have applications; what he may
 * claim is what is reserved for him, and what the policy for unreserved names leaves to everybody.
 * A user's own berthd knows one user, and asks nothing. */
#include "berthd/reserve.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "berthd/names.h"
#include "berthd/quota.h"

/* ip(7): a port below this takes CAP_NET_BIND_SERVICE. */
#define PORT_ANYBODY 1024

static const char *const unreserved_names[UNRESERVED_COUNT] = {
    [UNRESERVED_LOCALHOST] = "localhost",
    [UNRESERVED_ANYONE] = "anyone",
    [UNRESERVED_ROOT] = "root",
};

int reserve_unreserved_parse(const char *word, enum unreserved *ret_unreserved)
{
    for (size_t i = 0; i < UNRESERVED_COUNT; i++)
        if (strcmp(word, unreserved_names[i]) == 0) {
            *ret_unreserved = (enum unreserved)i;
            return 0;
        }
    return -EINVAL;
}

const char *reserve_unreserved_name(enum unreserved u)
{
    return unreserved_names[u];
}

void reserve_set_unreserved(struct server *s, enum unreserved u)
{
    s->reserve->unreserved = u;
}

int reserve_start(struct server *s)
{
    s->reserve = calloc(1, sizeof *s->reserve);
    if (!s->reserve)
        return -ENOMEM;
    reserve_table_init(&s->reserve->table);
    reserve_store_read(s->reserve);
    s->reserve->stale = true;
    return 0;
}

static int configured_add(struct server *s, const struct reserve_entry *e, struct list *seen)
{
    struct reserve_table *t = &s->reserve->table;
    uint16_t status = e->status ? e->status : RESERVE_STATUS;
    struct reservation *r = reserve_table_find(t, &e->route);
    int err = 0;
    if (!r) {
        struct reservation fresh = {.route = e->route, .status = status};
        err = reserve_table_add(t, &fresh);
        r = err < 0 ? NULL : reserve_table_find(t, &e->route);
    } else if (r->status != status) {
        reserve_refuse_forget(s, r);
    }
    if (!r)
        return err;
    r->uid = e->uid;
    r->by = 0;
    r->delegate = e->delegate;
    r->status = status;
    r->configured = true;
    list_remove(&r->link);
    list_append(seen, &r->link);
    return 0;
}

int reserve_set_configured(struct server *s, const struct reserve_entry *entries, size_t count)
{
    struct reserve_table *t = &s->reserve->table;
    struct list seen;
    int err = t->count + count > RESERVATIONS_MAX ? -ENOSPC : 0;
    list_init(&seen);
    for (size_t i = 0; i < count && err == 0; i++)
        err = configured_add(s, &entries[i], &seen);
    list_for_each(r, &t->all, struct reservation, link)
    {
        if (!r->configured || err < 0)
            continue;
        reserve_refuse_forget(s, r);
        reserve_table_remove(t, r);
    }
    list_for_each(r, &seen, struct reservation, link)
    {
        list_remove(&r->link);
        list_append(&t->all, &r->link);
    }
    s->reserve->stale = true;
    return err;
}

static bool is_free_of_rules(const struct server *s, uid_t uid)
{
    return s->uid != 0 || uid == 0 || s->reserve->recovering;
}

static int refuse_reserved(struct server *s, const struct reservation *r,
                           const struct route *wanted, uid_t uid, char reason[REASON_MAX])
{
    char own[ROUTE_TEXT_MAX], text[ROUTE_TEXT_MAX];
    char owner[NAME_MAX_CHARS], user[NAME_MAX_CHARS], way[NAME_MAX_CHARS + 16] = "root";
    names_user(s->names, r->uid, owner);
    names_user(s->names, uid, user);
    if (r->delegate)
        (void)snprintf(way, sizeof way, "user %s or root", owner);
    (void)snprintf(reason, REASON_MAX,
                   "%s is reserved for user %s; you are user %s: ask for it with `berth reserve %s "
                   "--user %s`, which %s may say",
                   route_format(&r->route, own), owner, user, route_format(wanted, text), user,
                   way);
    return -EACCES;
}

int reserve_admit_route(struct server *s, const struct route *r, uid_t uid, char reason[REASON_MAX])
{
    if (is_free_of_rules(s, uid))
        return 0;
    const struct reservation *v = reserve_table_cover(&s->reserve->table, r, NULL);
    return v && v->uid != uid ? refuse_reserved(s, v, r, uid, reason) : 0;
}

/* A reservation without a port is for the name, not for every port below 1024: only for those of
 * the web, of which each may see both protocols. */
static bool grants_port(const struct reservation *r, uint16_t port)
{
    bool web = r->route.scheme == SCHEME_HTTP || r->route.scheme == SCHEME_TLS;
    bool usual = web && (port == 80 || port == 443);
    return port >= PORT_ANYBODY || r->route.port == port || (r->route.port == 0 && usual);
}

/* The address of its own in 127.0.0.0/8 that every application gets (claim.c): it takes nothing
 * from anybody, and belongs to what has been admitted already. */
static bool is_own_address(const struct bind *b, const struct route *r, const struct addr *bound)
{
    if (r->scheme != SCHEME_TCP || r->kind != HOST_ADDR || bound->sa.sa_family != AF_INET)
        return false;
    uint32_t ip = ntohl(bound->v4.sin_addr.s_addr);
    bool aside = ip >> 24 == 127 && (ip >> 16 & 0xff) != 0;
    return aside && (addr_port(bound) >= PORT_ANYBODY || !list_empty(&b->claims));
}

static bool is_localhost(const struct route *r)
{
    const char *dot = strrchr(r->host, '.');
    return (r->kind == HOST_NAME || r->kind == HOST_LABEL) &&
           strcmp(dot ? dot + 1 : r->host, "localhost") == 0;
}

/* "+" and tcp:// come before every name, also those of others. */
static bool is_above_names(const struct route *r)
{
    return r->kind == HOST_STRONG || r->scheme == SCHEME_TCP;
}

static int refuse_unreserved(struct server *s, const struct route *r, uid_t uid, const char *what,
                             char reason[REASON_MAX])
{
    char text[ROUTE_TEXT_MAX], user[NAME_MAX_CHARS];
    names_user(s->names, uid, user);
    (void)snprintf(reason, REASON_MAX,
                   "%s is not reserved for user %s, and %s\n"
                   "root can say `berth reserve %s --user %s`; a berthd of your own needs no leave",
                   route_format(r, text), user, what, text, user);
    return -EACCES;
}

static int admit_unreserved(struct server *s, const struct route *r, const struct addr *bound,
                            uid_t uid, char reason[REASON_MAX])
{
    bool anyone = s->reserve->unreserved == UNRESERVED_ANYONE;
    if (s->reserve->unreserved == UNRESERVED_ROOT)
        return refuse_unreserved(s, r, uid, "names that nobody reserved are root's", reason);
    if (addr_port(bound) < PORT_ANYBODY)
        return refuse_unreserved(s, r, uid, "ports below 1024 are for reserved names", reason);
    if (anyone && is_above_names(r))
        return refuse_unreserved(s, r, uid, "it would go before the names of others", reason);
    if (!anyone && !is_localhost(r))
        return refuse_unreserved(s, r, uid, "of what nobody reserved only *.localhost is free",
                                 reason);
    if (!anyone && !addr_is_loopback(bound))
        return refuse_unreserved(
            s, r, uid, "without that a program has to bind a loopback address, as 127.0.0.1",
            reason);
    return 0;
}

int reserve_admit_claim(const struct bind *b, const struct route *r, const struct addr *bound,
                        char reason[REASON_MAX])
{
    struct server *s = b->server;
    uid_t uid = b->app->uid;
    if (is_free_of_rules(s, uid) || is_own_address(b, r, bound))
        return 0;
    int err = quota_check(s, uid, QUOTA_CLAIMS, reason);
    if (err < 0)
        return err;
    if (bound->sa.sa_family == AF_UNIX)
        return refuse_unreserved(s, r, uid, "a Unix address of the system's berthd is root's",
                                 reason);
    const struct reservation *v = reserve_table_cover(&s->reserve->table, r, NULL);
    if (v && v->uid != uid)
        return refuse_reserved(s, v, r, uid, reason);
    if (r->scheme == SCHEME_PEER)
        return v ? 0
                 : refuse_unreserved(s, r, uid, "services that nobody reserved are root's", reason);
    if (v && grants_port(v, r->port))
        return 0;
    if (v)
        return refuse_unreserved(s, r, uid,
                                 "a reservation without a port is for the ports 80 and 443 and "
                                 "those from 1024 on",
                                 reason);
    return admit_unreserved(s, r, bound, uid, reason);
}

int reserve_admit_change(struct server *s, const struct route *r, uid_t uid,
                         char reason[REASON_MAX])
{
    const struct reserve_table *t = &s->reserve->table;
    if (uid == 0 || uid == s->uid)
        return 0;
    const struct reservation *own = reserve_table_find(t, r);
    const struct reservation *above = reserve_table_cover(t, r, own);
    if (above && above->uid == uid && above->delegate)
        return 0;
    if (above && above->uid == uid) {
        char text[ROUTE_TEXT_MAX];
        (void)snprintf(reason, REASON_MAX,
                       "%s is reserved for you, but not to be given on: root can reserve it "
                       "--delegate",
                       route_format(&above->route, text));
        return -EACCES;
    }
    if (above || own)
        return refuse_reserved(s, above ? above : own, r, uid, reason);
    return refuse_unreserved(s, r, uid, "only root reserves names", reason);
}
