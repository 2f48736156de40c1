/* Gathers what is known into JSON; the command line makes tables and sentences of it. */
#include "peerd/report.h"

#include <jansson.h>

#include "base/clock.h"
#include "peerd/forward.h"
#include "peerd/peerd.h"
#include "peerd/report-path.h"

static char *text_of(json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    return text;
}

static bool is_direct(const struct session_stats *s)
{
    return s->quic.path.id == NET_PATH_UDP || sockets_is_path(s->quic.path.id) ||
           tcpway_is_path(s->quic.path.id);
}

static const char *way_word(struct remote *r, const struct session_stats *s)
{
    (void)r;
    return is_direct(s) ? "direct" : "relay";
}

/* The address of a direct path, or the server whose relay it is. */
static void way_add(struct net *n, json_t *j, const struct session_stats *s)
{
    char text[ADDR_TEXT_MAX];
    const struct channel *c = net_path_channel(n, &s->quic.path);
    if (is_direct(s))
        (void)json_object_set_new(j, "address",
                                  json_string(addr_format(&s->quic.path.remote, text)));
    if (is_direct(s))
        (void)json_object_set_new(j, "transport",
                                  json_string(tcpway_is_path(s->quic.path.id) ? "tcp" : "udp"));
    else if (c && c->at.way.server < n->server_count)
        (void)json_object_set_new(j, "address", json_string(n->servers[c->at.way.server]));
}

static json_t *session_json(struct remote *r)
{
    struct session_stats s;
    session_stat(r->session, &s);
    json_t *j =
        json_pack("{s:s, s:b, s:I, s:I, s:I, s:i, s:I, s:I, s:b}", "path", way_word(r, &s), "up",
                  session_is_up(r->session), "rtt_us", (json_int_t)s.quic.rtt_us, "bytes_in",
                  (json_int_t)s.quic.bytes_in, "bytes_out", (json_int_t)s.quic.bytes_out, "streams",
                  (int)s.streams, "streams_total", (json_int_t)s.streams_total, "lost",
                  (json_int_t)s.lost, "caller", session_is_client(r->session));
    way_add(&r->peerd->net, j, &s);
    if (r->called_ms)
        (void)json_object_set_new(j, "calls", json_integer(r->calls));
    if (r->called_ms && r->path.first_ms)
        (void)json_object_set_new(j, "direct_ms",
                                  json_integer((json_int_t)(r->path.first_ms - r->called_ms)));
    return j;
}

static json_t *remote_json(struct remote *r)
{
    char key[KEY_TEXT_MAX];
    json_t *j = json_pack("{s:s, s:s, s:i, s:i}", "key", key_format(&r->key, key), "name", r->name,
                          "moves", (int)r->path.moves, "falls", (int)r->path.falls);
    if (r->session)
        (void)json_object_set_new(j, "session", session_json(r));
    return j;
}

static json_t *keeping_json(const struct keeping *k)
{
    return json_pack("{s:s, s:i, s:i, s:s, s:i}", "state", keeping_word(k), "alive_ms",
                     (int)k->result.alive_ms, "dead_ms", (int)k->result.dead_ms, "inbound",
                     lifetime_inbound_word(k->result.inbound), "interval_ms",
                     (int)keeping_interval_ms(k));
}

char *report_peers(struct peerd *p)
{
    json_t *list = json_array();
    list_for_each(r, &p->remotes, struct remote, link)(void)
        json_array_append_new(list, remote_json(r));
    return text_of(
        json_pack("{s:o, s:o}", "peers", list, "keeping", keeping_json(&p->net.keeping)));
}

static json_t *allowed_json(const struct state *s, const char *service)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->allowed_count; i++) {
        const struct allowed *a = &s->allowed[i];
        char key[KEY_TEXT_MAX];
        if (strcmp(a->service, service) != 0 && strcmp(a->service, STATE_ALL) != 0)
            continue;
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s}", "key", key_format(&a->key, key), "name", a->name));
    }
    return list;
}

static json_t *server_json(struct net *n, uint32_t i)
{
    static const char *const transports[] = {"none", "udp", "tls"};
    struct presence_server s;
    struct link_status l;
    char text[ADDR_TEXT_MAX];
    presence_server(n->presence, i, &s);
    link_status(n->link, i, &l);
    json_t *j = json_pack("{s:s, s:s, s:s, s:b, s:I, s:b, s:I}", "server", n->servers[i], "state",
                          net_server_word(s.state), "transport", transports[l.transport], "silent",
                          s.silent, "rtt_us", (json_int_t)s.rtt_us, "allow_known", s.allow_known,
                          "passed_over", (json_int_t)s.passed_over);
    if (s.seen.len)
        (void)json_object_set_new(j, "seen", json_string(addr_format(&s.seen, text)));
    if (s.reason != RDV_OK)
        (void)json_object_set_new(j, "reason", json_string(rdv_reason_word(s.reason)));
    if (l.trouble)
        (void)json_object_set_new(j, "trouble", json_string(l.trouble));
    return j;
}

static json_t *servers_json(struct net *n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; n->presence && i < n->server_count; i++)
        (void)json_array_append_new(list, server_json(n, i));
    return list;
}

char *report_published(struct peerd *p)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->state.publication_count; i++) {
        const struct publication *pub = &p->state.publications[i];
        (void)json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:i, s:b, s:b, s:o, s:I, s:I}", "service", pub->service, "to",
                      pub->to, "port", (int)pub->port, "proxy", pub->proxy, "anyone", pub->anyone,
                      "allowed", allowed_json(&p->state, pub->service), "streams",
                      (json_int_t)pub->streams, "refused", (json_int_t)pub->refused));
    }
    return text_of(json_pack("{s:o, s:b, s:o}", "services", list, "attached",
                             source_ready(&p->source), "servers", servers_json(&p->net)));
}

static json_t *forwards_json(struct peerd *p)
{
    json_t *list = json_array();
    list_for_each(f, &p->forwards, struct forward, link)
    {
        char text[ADDR_TEXT_MAX];
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s, s:b, s:I, s:I}", "address", addr_format(&f->addr, text),
                            "target", f->text, "detached", f->ask == NULL, "accepted",
                            (json_int_t)f->accepted, "failed", (json_int_t)f->failed));
    }
    return list;
}

static json_t *tcp_json(const struct tcpways *t)
{
    return json_pack("{s:i, s:i, s:i, s:I, s:I}", "port", (int)t->port, "connections",
                     (int)t->count, "strange", (int)t->strange, "greeted", (json_int_t)t->greeted,
                     "refused", (json_int_t)t->refused);
}

char *report_status(struct peerd *p)
{
    struct endpoint_stats s;
    char key[KEY_TEXT_MAX];
    endpoint_stat(p->net.endpoint, &s);
    return text_of(json_pack(
        "{s:i, s:s, s:i, s:I, s:o, s:o, s:o, s:o, s:o, s:{s:i, s:i, s:I, s:I, s:I, s:I}}", "pid",
        (int)getpid(), "key", key_format(&p->id.key, key), "port", (int)p->net.udp.port,
        "uptime_ms", (json_int_t)(clock_now_ms() - p->started_ms), "servers", servers_json(&p->net),
        "forwards", forwards_json(p), "here", report_here(p), "tcp", tcp_json(&p->net.tcpways),
        "keeping", keeping_json(&p->net.keeping), "sessions", "count", (int)s.sessions, "streams",
        (int)s.streams, "held", (json_int_t)s.held, "dialled", (json_int_t)s.dialled, "opened",
        (json_int_t)s.opened, "refused", (json_int_t)s.refused));
}

char *report_network(struct peerd *p)
{
    return text_of(json_pack("{s:o, s:o, s:o}", "servers", servers_json(&p->net), "here",
                             report_here(p), "advice", report_advice(p, NULL)));
}

static json_t *trail_json(const struct trail *t, uint64_t begun_ms)
{
    json_t *list = json_array();
    const struct trail_step *s;
    for (size_t i = 0; (s = trail_step(t, i)); i++)
        (void)json_array_append_new(list, json_pack("{s:I, s:s}", "ms",
                                                    (json_int_t)s->at_ms - (json_int_t)begun_ms,
                                                    "what", s->text));
    return list;
}

static json_t *tries_json(const struct path *p)
{
    static const char *const kinds[RECORD_KIND_END] = {"?", "host", "server-reflexive", "mapped"};
    json_t *list = json_array();
    for (size_t i = 0; i < p->count; i++) {
        char text[ADDR_TEXT_MAX];
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "address",
                                                    addr_format(&p->tries[i].path.remote, text),
                                                    "kind", kinds[p->tries[i].kind], "result",
                                                    path_result_word(p->tries[i].result)));
    }
    return list;
}

char *report_why(struct peerd *p, const struct dial *d, int err, const char *sentence)
{
    char key[KEY_TEXT_MAX];
    json_t *j = json_pack("{s:b, s:s, s:s, s:s, s:o, s:o}", "works", err == 0, "sentence", sentence,
                          "name", d->target.name, "service", d->target.service, "servers",
                          servers_json(&p->net), "steps", trail_json(&d->trail, d->begun_ms));
    (void)json_object_set_new(j, "here", report_here(p));
    struct remote *r = remote_find(p, &d->target.key);
    if (r)
        (void)json_object_set_new(j, "attempts", report_attempts(r));
    (void)json_object_set_new(j, "advice", report_advice(p, r));
    if (!r)
        return text_of(j);
    json_t *there = report_there(r);
    if (there)
        (void)json_object_set_new(j, "there", there);
    (void)json_object_set_new(j, "key", json_string(key_format(&r->key, key)));
    (void)json_object_set_new(j, "peer", trail_json(&r->trail, d->begun_ms));
    (void)json_object_set_new(j, "tries", tries_json(&r->path));
    enum punch_reason failed = r->punchings[PUNCHING_CALLER].reason;
    if (failed != PUNCH_NO_REASON)
        (void)json_object_set_new(j, "hindrance", json_string(punch_reason_sentence(failed)));
    if (r->session)
        (void)json_object_set_new(j, "session", session_json(r));
    return text_of(j);
}
