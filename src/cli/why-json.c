/* Turns a report and its answer into one JSON object. Text that is not UTF-8 (a command line may be
 * anything) is replaced by an empty string rather than spoiling the whole. */
#include "cli/why-json.h"

#include <jansson.h>
#include <string.h>

static json_t *text(const char *s)
{
    json_t *j = json_string(s);
    return j ? j : json_string("");
}

static json_t *address(const struct addr *a)
{
    char buf[ADDR_TEXT_MAX];
    return text(addr_format(a, buf));
}

static json_t *process(const struct why_proc *p)
{
    json_t *j =
        json_pack("{s:i, s:o, s:o, s:i, s:o, s:o, s:b}", "pid", (int)p->pid, "name", text(p->name),
                  "user", text(p->user), "uid", (int)p->uid, "exe", text(p->exe), "cmdline",
                  text(p->cmdline), "foreign_netns", p->foreign_netns);
    if (p->cgroup.unit[0])
        (void)json_object_set_new(j, "unit", text(p->cgroup.unit));
    if (p->cgroup.unit[0])
        (void)json_object_set_new(j, "user_unit", json_boolean(p->cgroup.user_unit));
    if (p->cgroup.engine != ENGINE_NONE)
        (void)json_object_set_new(j, "container",
                                  json_pack("{s:s, s:o}", "engine",
                                            why_engine_name(p->cgroup.engine), "id",
                                            text(p->cgroup.container)));
    return j;
}

static json_t *sockets(const struct why_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->socks_count; i++) {
        const struct why_sock *s = &r->socks[i];
        json_t *processes = json_array();
        for (size_t k = 0; k < why_holders(r, i); k++)
            (void)json_array_append_new(processes, process(why_holder(r, i, k)));
        (void)json_array_append_new(
            list,
            json_pack("{s:o, s:s, s:b, s:b, s:o, s:I, s:I, s:o}", "address", address(&s->local),
                      "state", why_state_name(s->state), "v6only", s->v6only, "mptcp", s->mptcp,
                      "user", text(s->user), "queued", (json_int_t)s->queued, "backlog",
                      (json_int_t)s->backlog, "processes", processes));
    }
    return list;
}

static json_t *errno_name(int err)
{
    const char *name = err ? strerrorname_np(err) : NULL;
    return err == 0 ? json_null() : text(name ? name : "unknown");
}

static json_t *probes(const struct why_report *r)
{
    json_t *list = json_array();
    char reason[WHY_TEXT_MAX];
    for (size_t i = 0; i < r->probes_count; i++) {
        const struct why_probe *p = &r->probes[i];
        (void)json_array_append_new(
            list, json_pack("{s:o, s:o, s:o, s:o}", "address", address(&p->addr), "plain",
                            errno_name(p->plain), "reuseaddr", errno_name(p->reuse), "reason",
                            text(why_probe_reason(r, p, reason))));
    }
    return list;
}

static json_t *states(const struct why_report *r)
{
    json_t *counts = json_object();
    for (int i = 0; i < WHY_STATES; i++)
        if (r->states[i] > 0)
            (void)json_object_set_new(counts, why_state_name(i), json_integer(r->states[i]));
    return counts;
}

static json_t *steering(const struct why_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->redirs_count; i++)
        (void)json_array_append_new(list, json_pack("{s:o, s:o}", "via", text(r->redirs[i].via),
                                                    "to", text(r->redirs[i].what)));
    for (size_t i = 0; i < r->lookups_count; i++)
        (void)json_array_append_new(
            list, json_pack("{s:s, s:o}", "via", "sk_lookup", "to", text(r->lookups[i])));
    return list;
}

static json_t *elsewhere(const struct why_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->elsewhere_count; i++) {
        const struct why_elsewhere *e = &r->elsewhere[i];
        (void)json_array_append_new(
            list, json_pack("{s:o, s:I, s:i, s:o}", "address", address(&e->local), "netns",
                            (json_int_t)e->netns, "pid", (int)e->pid, "name", text(e->name)));
    }
    return list;
}

static json_t *notes(const struct why_answer *a)
{
    json_t *list = json_array();
    for (size_t i = 0; i < a->notes_count; i++)
        (void)json_array_append_new(list, text(a->notes[i]));
    return list;
}

static json_t *mends(const struct why_answer *a)
{
    json_t *list = json_array();
    for (size_t i = 0; i < a->mends_count; i++)
        (void)json_array_append_new(list,
                                    json_pack("{s:o, s:o}", "command", text(a->mends[i].command),
                                              "effect", text(a->mends[i].effect)));
    return list;
}

int why_json_print(const struct why_report *r, const struct why_answer *a, FILE *f)
{
    json_t *j = json_pack("{s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "verdict",
                          text(a->verdict), "trouble", a->trouble, "holders", sockets(r), "states",
                          states(r), "bind", probes(r), "steering", steering(r), "elsewhere",
                          elsewhere(r), "notes", notes(a), "mend", mends(a));
    if (!j)
        return -ENOMEM;
    if (r->target.kind == WHY_PID)
        (void)json_object_set_new(j, "pid", json_integer(r->target.pid));
    else
        (void)json_object_set_new(j, "port", json_integer(r->target.port));
    int rc = json_dumpf(j, f, JSON_INDENT(2)) < 0 || fputc('\n', f) == EOF ? -EIO : 0;
    json_decref(j);
    return rc;
}
