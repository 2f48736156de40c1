/* The verbs of reservations: what the command line asked comes in, text or a sentence goes out. A
 * reservation counts when it is in the file, and not before. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "berthd/names.h"
#include "berthd/reserve.h"

/* Of all that were delegated to one user and that he reserved for others. */
#define DELEGATED_MAX 256

static int complain(struct command_answer *answer, int err, const char *text)
{
    (void)snprintf(answer->reason, sizeof answer->reason, "%s", text);
    return err;
}

static int routes_parse(const char *text, struct route routes[2], struct command_answer *answer)
{
    char reason[ROUTE_REASON_MAX];
    int n = route_expand(text, routes, reason);
    return n < 0 ? complain(answer, n, reason) : n;
}

static int number(const char *text, unsigned long max, unsigned long *ret)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (!ascii_is_digit(text[0]) || *end || v > max)
        return -EINVAL;
    *ret = v;
    return 0;
}

/* ROUTE UID yes|no STATUS */
static int add_parse(const struct command_ask *ask, struct reservation *r,
                     struct command_answer *answer)
{
    unsigned long uid, status;
    if (ask->arg_count != 4 || number(ask->args[1], UINT32_MAX - 1, &uid) < 0 ||
        number(ask->args[3], RESERVE_STATUS_MAX, &status) < 0 || status < RESERVE_STATUS_MIN)
        return complain(answer, -EINVAL, "reserve: ROUTE UID yes|no STATUS (400 to 599)");
    r->uid = (uid_t)uid;
    r->by = ask->cred->uid;
    r->delegate = strcmp(ask->args[2], "yes") == 0;
    r->status = (uint16_t)status;
    return 0;
}

static size_t delegated_count(const struct reserve_table *t, uid_t by)
{
    size_t n = 0;
    list_for_each(r, &t->all, struct reservation, link) n += r->by == by;
    return n;
}

static int add_admit(struct server *s, const struct route *route, uid_t uid,
                     struct command_answer *answer)
{
    char reason[REASON_MAX] = "", text[ROUTE_TEXT_MAX], name[NAME_MAX_CHARS];
    int err = reserve_admit_change(s, route, uid, reason);
    if (err < 0)
        return complain(answer, err, reason);
    const struct reservation *own = reserve_table_find(&s->reserve->table, route);
    if (own) {
        (void)snprintf(answer->reason, sizeof answer->reason,
                       "%s is reserved for user %s already: `berth reserve --delete` it first",
                       route_format(route, text), names_user(s->names, own->uid, name));
        return -EEXIST;
    }
    if (uid != 0 && uid != s->uid && delegated_count(&s->reserve->table, uid) >= DELEGATED_MAX)
        return complain(answer, -EDQUOT, "one user may reserve at most 256 names for others");
    return 0;
}

static int store_failed(struct server *s, int err, struct command_answer *answer)
{
    (void)snprintf(answer->reason, sizeof answer->reason,
                   err == -EUCLEAN ? "%s has lines that berthd does not understand: mend them and "
                                     "restart berthd; nothing was changed"
                                   : "%s cannot be written: %s; nothing was changed",
                   s->reserve->path, strerror(-err));
    return err;
}

/* All of them, or none. */
static int add_all(struct server *s, struct reservation *r, const struct route *routes,
                   size_t count, struct command_answer *answer)
{
    struct reserve_table *t = &s->reserve->table;
    int err = 0;
    size_t made = 0;
    while (made < count && err == 0) {
        r->route = routes[made];
        err = reserve_table_add(t, r);
        made += err == 0;
    }
    if (err < 0)
        (void)complain(answer, err, err == -ENOSPC ? "too many names are reserved" : "no memory");
    else if ((err = reserve_store_write(s->reserve, NULL)) < 0)
        (void)store_failed(s, err, answer);
    for (size_t i = 0; i < made && err < 0; i++)
        reserve_table_remove(t, reserve_table_find(t, &routes[i]));
    return err;
}

/* Another's program that has the name already keeps it until it ends. */
static void served_by_others(struct server *s, const struct reservation *r, FILE *out)
{
    char why[ROUTE_REASON_MAX], owner[512];
    struct route route;
    list_for_each(b, &s->binds, struct bind, link) list_for_each(c, &b->claims, struct claim, link)
    {
        if (b->app->uid == r->uid || route_parse(c->route, &route, why) < 0 ||
            !reserve_covers(&r->route, &route))
            continue;
        report_owner(b, owner, sizeof owner);
        (void)fprintf(out, "%s is served by %s until that ends\n", c->route, owner);
        break;
    }
}

static void added(struct server *s, const struct route *route, FILE *out)
{
    char text[ROUTE_TEXT_MAX], name[NAME_MAX_CHARS];
    const struct reservation *r = reserve_table_find(&s->reserve->table, route);
    if (!r)
        return;
    (void)fprintf(out, "%s is reserved for user %s\n", route_format(&r->route, text),
                  names_user(s->names, r->uid, name));
    served_by_others(s, r, out);
    log_info("reserved route=%s uid=%u by=%u", text, r->uid, r->by);
}

static int text_answer(FILE *out, char **text, struct command_answer *answer)
{
    if (fclose(out) != 0) {
        free(*text);
        return -ENOMEM;
    }
    answer->text = *text;
    return 0;
}

int reserve_command_add(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    struct reservation r = {0};
    struct route routes[2];
    int err = add_parse(ask, &r, answer);
    int count = err < 0 ? err : routes_parse(ask->args[0], routes, answer);
    for (int i = 0; i < count && err == 0; i++)
        err = add_admit(s, &routes[i], ask->cred->uid, answer);
    if (err == 0 && count > 0)
        err = add_all(s, &r, routes, (size_t)count, answer);
    if (count < 0 || err < 0)
        return count < 0 ? count : err;
    s->reserve->stale = true;
    (void)dispatch_commit(s);
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return -ENOMEM;
    for (int i = 0; i < count; i++)
        added(s, &routes[i], out);
    return text_answer(out, &text, answer);
}

static int delete_admit(struct server *s, const struct route *route, uid_t uid,
                        struct command_answer *answer)
{
    char text[ROUTE_TEXT_MAX], reason[REASON_MAX] = "";
    const struct reservation *r = reserve_table_find(&s->reserve->table, route);
    if (!r || r->configured) {
        (void)snprintf(answer->reason, sizeof answer->reason,
                       r ? "%s is reserved by the configuration: take it out there"
                         : "%s is not reserved",
                       route_format(route, text));
        return r ? -EPERM : -ENOENT;
    }
    int err = reserve_admit_change(s, route, uid, reason);
    return err < 0 ? complain(answer, err, reason) : 0;
}

int reserve_command_delete(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    struct route routes[2];
    struct reserve_table *t = &s->reserve->table;
    if (ask->arg_count != 1)
        return complain(answer, -EINVAL, "reserve-delete: ROUTE");
    int count = routes_parse(ask->args[0], routes, answer), err = 0;
    for (int i = 0; i < count && err == 0; i++)
        err = delete_admit(s, &routes[i], ask->cred->uid, answer);
    for (int i = 0; i < count && err == 0; i++) {
        struct reservation *r = reserve_table_find(t, &routes[i]);
        err = reserve_store_write(s->reserve, r);
        if (err < 0)
            return store_failed(s, err, answer);
        log_info("reservation deleted uid=%u by=%u", r->uid, ask->cred->uid);
        reserve_refuse_forget(s, r);
        reserve_table_remove(t, r);
    }
    if (count < 0 || err < 0)
        return count < 0 ? count : err;
    (void)dispatch_commit(s);
    return 0;
}

static bool is_served(struct server *s, const struct reservation *r)
{
    list_for_each(l, &s->listeners, struct shared_listener, link)
    {
        struct route route = r->route;
        uint16_t port = addr_port(&l->bound);
        if (route.port && route.port != port)
            continue;
        route.port = port;
        if (claim_serving(s, &route, &l->bound))
            return true;
    }
    return false;
}

static json_t *reservation_json(struct server *s, const struct reservation *r)
{
    char route[ROUTE_TEXT_MAX], user[NAME_MAX_CHARS], by[NAME_MAX_CHARS];
    return json_pack("{s:s, s:s?, s:I, s:b, s:i, s:s?, s:s, s:b}", "route",
                     route_format(&r->route, route), "user", names_user(s->names, r->uid, user),
                     "uid", (json_int_t)r->uid, "delegate", r->delegate, "status", (int)r->status,
                     "by", names_user(s->names, r->by, by), "source",
                     r->configured ? "configuration" : "command", "served", is_served(s, r));
}

int reserve_command_list(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    (void)ask;
    json_t *list = json_array();
    list_for_each(r, &s->reserve->table.all, struct reservation, link)(void)
        json_array_append_new(list, reservation_json(s, r));
    json_t *j = json_pack("{s:o, s:s}", "reservations", list, "unreserved",
                          reserve_unreserved_name(s->reserve->unreserved));
    answer->text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(j);
    return answer->text ? 0 : -ENOMEM;
}

/* Is one of these routes reserved, or lies one that is reserved for the asker below it? `berth run`
 * asks, to know whether a program belongs to the system's berthd. */
static bool concerns(const struct reserve_table *t, const struct route *route)
{
    list_for_each(r, &t->all, struct reservation, link)
    {
        struct route at = *route;
        if (at.port == 0)
            at.port = r->route.port;
        if (reserve_covers(&r->route, &at))
            return true;
    }
    return false;
}

int reserve_command_covers(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    bool found = false;
    for (size_t i = 0; i < ask->arg_count; i++) {
        struct route routes[2];
        int count = routes_parse(ask->args[i], routes, answer);
        if (count < 0)
            return count;
        for (int k = 0; k < count; k++)
            found |= concerns(&s->reserve->table, &routes[k]);
    }
    return found ? 0 : complain(answer, -ENOENT, "none of them is reserved");
}
