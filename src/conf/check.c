/* What only several keys of a section together tell. */
#include "conf/reader.h"

static size_t number_of(const struct conf_reader *r, const char *key)
{
    const struct conf_key *k = conf_key_find(r->schema, key);
    return k ? (size_t)(k - r->schema->keys) : 0;
}

unsigned conf_line_of(const struct conf_reader *r, const char *key)
{
    const struct conf_place *place =
        (const struct conf_place *)((const char *)r->object + r->schema->place);
    unsigned line = r->lines[number_of(r, key)];
    return line ? line : place->line;
}

bool conf_is_given(const struct conf_reader *r, const char *key)
{
    return r->lines[number_of(r, key)] != 0;
}

bool conf_is_bad(const struct conf_reader *r, const char *key)
{
    return r->bad >> number_of(r, key) & 1;
}

static void start_check(struct conf_reader *r, struct conf_app *a)
{
    if (a->start != CONF_START_DEMAND || conf_is_given(r, "listen") || conf_is_bad(r, "start") ||
        conf_app_is_for_peers(a))
        return;
    if (conf_is_given(r, "start"))
        conf_complain(r, conf_line_of(r, "start"), "start",
                      "no connection can start it without an address: add listen = 0.0.0.0:80, or "
                      "write start = always");
    else
        a->start = CONF_START_ALWAYS;
}

/* What berth-upstream serves has no program. */
static void to_check(struct conf_reader *r, const struct conf_app *a)
{
    static const char *const keys[] = {"command", "pass_sockets", "port"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (conf_is_given(r, keys[i]))
            conf_complain(r, conf_line_of(r, keys[i]), keys[i],
                          "this is about a program, and with to = there is none: leave one of "
                          "the two out");
    if (!conf_is_given(r, "listen") && !conf_app_is_for_peers(a))
        conf_complain(r, conf_line_of(r, "to"), "to",
                      "nothing says where its connections arrive: add listen = 0.0.0.0:80");
}

static void app_check(struct conf_reader *r, struct conf_app *a)
{
    if (conf_is_given(r, "to"))
        to_check(r, a);
    else if (!conf_is_given(r, "command"))
        conf_complain(r, a->place.line, "command",
                      "the command is missing: say what is started, as in "
                      "command = /usr/bin/node server.js");
    if (!conf_is_given(r, "route"))
        conf_complain(r, a->place.line, "route",
                      "the route is missing: say what the application answers to, as in "
                      "route = blog.example; any:// is everything");
    if (!a->to)
        start_check(r, a);
    if (a->send_proxy && !a->to && !conf_is_bad(r, "to"))
        conf_complain(r, conf_line_of(r, "send_proxy"), "send_proxy",
                      "only with to = something is written in front of a connection: a program "
                      "sees the client's own address anyway");
    if (a->pass_sockets && !conf_is_given(r, "listen"))
        conf_complain(r, conf_line_of(r, "pass_sockets"), "pass_sockets",
                      "there is no socket to pass: add listen = 0.0.0.0:80");
    if (a->ready == CONF_READY_PROBE && !a->health.path && !a->health.port &&
        !conf_is_bad(r, "health"))
        conf_complain(r, conf_line_of(r, "ready"), "ready",
                      "there is nothing to ask: add health = /healthz, or a port");
    if ((a->health.path || a->health.port) && a->health_timeout_ms < a->health_interval_ms &&
        !conf_is_bad(r, "health_timeout") && !conf_is_bad(r, "health_interval"))
        conf_complain(r, conf_line_of(r, "health_timeout"), "health_timeout",
                      "this is shorter than health_interval, so that one answer could never come "
                      "in time: write a longer time, or a shorter interval");
    conf_claims_check(r, a);
}

static void reserve_check(struct conf_reader *r, const struct conf_reserve *reserve)
{
    if (!conf_is_given(r, "user"))
        conf_complain(r, reserve->place.line, "user",
                      "the user is missing: say whose name it is, as in user = shop");
}

void conf_section_check(struct conf_reader *r)
{
    if (r->schema == conf_schema(CONF_SECTION_APP))
        app_check(r, r->object);
    else if (r->schema == conf_schema(CONF_SECTION_RESERVE))
        reserve_check(r, r->object);
}
