/* What `berth ls` and `berth status` show, as JSON text. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "berthd/names.h"
#include "berthd/pool-report.h"
#include "conf/conf.h"

/* JSON is UTF-8; names of people, files and commands are bytes. */
static json_t *text_json(const char *text)
{
    json_t *j = json_string(text);
    if (j)
        return j;
    char *copy = strdup(text);
    for (char *p = copy; p && *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    j = json_string(copy ? copy : "?");
    free(copy);
    return j;
}

static json_t *user_name(const struct server *s, uid_t uid)
{
    char name[NAME_MAX_CHARS];
    return text_json(names_user(s->names, uid, name));
}

static void process_name(pid_t pid, char *buf, size_t size)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *f = fopen(path, "re");
    (void)snprintf(buf, size, "?");
    if (!f)
        return;
    if (fgets(buf, (int)size, f))
        buf[strcspn(buf, "\n")] = 0;
    (void)fclose(f);
}

void report_owner(const struct bind *b, char *buf, size_t size)
{
    char program[64], user[NAME_MAX_CHARS];
    process_name(b->holder, program, sizeof program);
    (void)snprintf(buf, size, "%s (pid %d, %s, user %s)", b->app->name, b->holder, program,
                   names_user(b->server->names, b->app->uid, user));
}

/* Which processes hold which queue, found in one walk. */
struct holders {
    json_t *by_inode;
};

static void holders_hit(void *ctx, ino_t inode, pid_t pid)
{
    struct holders *h = ctx;
    char key[32];
    (void)snprintf(key, sizeof key, "%llu", (unsigned long long)inode);
    json_t *pids = json_object_get(h->by_inode, key);
    if (!pids)
        return;
    size_t n = json_array_size(pids);
    if (n == 0 || json_integer_value(json_array_get(pids, n - 1)) != pid)
        (void)json_array_append_new(pids, json_integer(pid));
}

static json_t *holders_all(const struct server *s)
{
    struct holders h = {json_object()};
    list_for_each(b, &s->binds, struct bind, link)
    {
        char key[32];
        (void)snprintf(key, sizeof key, "%llu", (unsigned long long)b->inode);
        (void)json_object_set_new(h.by_inode, key, json_array());
    }
    (void)holders_walk(s, holders_hit, &h);
    return h.by_inode;
}

uint64_t report_delivered(struct server *s, const struct claim *c)
{
    uint64_t now = s->board ? board_get(&s->board->delivered[c->id]) : 0;
    return now > c->delivered_before ? now - c->delivered_before : 0;
}

static json_t *claim_json(struct server *s, const struct claim *c)
{
    char address[ADDR_TEXT_MAX] = "-";
    if (c->listener->bound.sa.sa_family != AF_UNSPEC)
        (void)addr_format(&c->listener->bound, address);
    return json_pack("{s:o, s:o, s:I, s:b}", "route", text_json(c->route), "address",
                     text_json(address), "connections", (json_int_t)report_delivered(s, c),
                     "shared_host", claims_share_host(c));
}

static json_t *bind_json(struct server *s, const struct bind *b, json_t *holders)
{
    char key[32], address[ADDR_TEXT_MAX];
    json_t *routes = json_array();
    list_for_each(c, &b->claims, struct claim, link)(void)
        json_array_append_new(routes, claim_json(s, c));
    (void)snprintf(key, sizeof key, "%llu", (unsigned long long)b->inode);
    bool native = b->flags & APPMSG_NATIVE;
    const char *rung = b->base && b->app->pool->conf->to ? "upstream"
                       : b->base                         ? "pool"
                       : native                          ? "native"
                                                         : "preload";
    return json_pack("{s:s, s:s, s:b, s:b, s:I, s:O?, s:o}", "address",
                     native ? "-" : addr_format(&b->addr, address), "rung", rung, "listening",
                     b->listening, "orphaned", b->orphan, "waiting", (json_int_t)bind_waiting(b),
                     "pids", json_object_get(holders, key), "routes", routes);
}

static json_t *app_json(struct server *s, const struct app *a, json_t *holders, uid_t viewer)
{
    bool own = viewer == 0 || viewer == s->uid || viewer == a->uid;
    json_t *binds = json_array();
    list_for_each(b, &a->binds, struct bind, app_link)(void)
        json_array_append_new(binds, bind_json(s, b, holders));
    json_t *j = json_pack("{s:o, s:o, s:o, s:i, s:o}", "name", text_json(a->name), "command",
                          text_json(own ? a->command : ""), "user", user_name(s, a->uid), "pid",
                          (int)a->pid, "binds", binds);
    if (j && a->pool && a->pool->conf->to)
        (void)json_object_set_new(j, "to", text_json(own ? a->pool->conf->to : ""));
    if (j && a->pool)
        (void)json_object_set_new(j, "pool", pool_report(a->pool));
    return j;
}

static char *dump(json_t *j)
{
    char *text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(j);
    return text;
}

char *report_list(struct server *s, uid_t viewer)
{
    json_t *holders = holders_all(s), *apps = json_array();
    list_for_each(a, &s->apps, struct app, link)(void)
        json_array_append_new(apps, app_json(s, a, holders, viewer));
    json_decref(holders);
    return dump(json_pack("{s:o}", "apps", apps));
}

char *report_status(struct server *s)
{
    json_t *j = json_pack(
        "{s:i, s:i, s:I, s:I, s:I, s:I}", "pid", (int)getpid(), "dispatch_pid",
        (int)s->dispatch_pid, "retiring", (json_int_t)retire_count(s), "threads",
        (json_int_t)s->threads, "uptime_ms", (json_int_t)(clock_now_ms() - s->started_ms), "routes",
        (json_int_t)s->claim_numbers.next - (json_int_t)s->claim_numbers.free_count);
    if (s->board) {
        (void)json_object_set_new(j, "accepted",
                                  json_integer((json_int_t)board_get(&s->board->accepted)));
        (void)json_object_set_new(j, "refused",
                                  json_integer((json_int_t)board_get(&s->board->refused)));
        (void)json_object_set_new(j, "sniffing",
                                  json_integer((json_int_t)board_get(&s->board->sniffing)));
        (void)json_object_set_new(j, "waiting",
                                  json_integer((json_int_t)board_get(&s->board->waiting)));
    }
    return dump(j);
}
