/* Finds the rules that send connections of a port elsewhere, in nft's JSON and in the text of
 * iptables-save. Pure: texts in, lines of the report out. */
#include <stdio.h>
#include <stdlib.h>

#include "why/parts.h"

static void redir_add(struct why_report *r, const char *via, const char *what)
{
    for (size_t i = 0; i < r->redirs_count; i++)
        if (strcmp(r->redirs[i].what, what) == 0)
            return;
    if (r->redirs_count == WHY_REDIRS_MAX)
        return;
    struct why_redir *to = &r->redirs[r->redirs_count++];
    (void)snprintf(to->via, sizeof to->via, "%s", via);
    (void)snprintf(to->what, sizeof to->what, "%s", what);
}

/* A number, {"range": [lo, hi]}, or {"set": [...]} of those. A named set ("@web") is not followed.
 */
static bool value_has(const json_t *v, uint16_t port, int depth)
{
    if (json_is_integer(v))
        return json_integer_value(v) == port;
    const json_t *range = json_object_get(v, "range"), *set = json_object_get(v, "set");
    if (json_array_size(range) == 2)
        return json_integer_value(json_array_get(range, 0)) <= port &&
               port <= json_integer_value(json_array_get(range, 1));
    for (size_t i = 0; depth > 0 && i < json_array_size(set); i++)
        if (value_has(json_array_get(set, i), port, depth - 1))
            return true;
    return false;
}

/* Does this expression compare the destination port, and with ours? */
static bool matches_port(const json_t *expr, uint16_t port)
{
    const json_t *match = json_object_get(expr, "match");
    const json_t *payload = json_object_get(json_object_get(match, "left"), "payload");
    const char *field = json_string_value(json_object_get(payload, "field"));
    const char *protocol = json_string_value(json_object_get(payload, "protocol"));
    const char *op = json_string_value(json_object_get(match, "op"));
    if (!field || strcmp(field, "dport") != 0 || !protocol || strcmp(protocol, "udp") == 0)
        return false;
    bool has = value_has(json_object_get(match, "right"), port, 2);
    return op && strcmp(op, "!=") == 0 ? !has : has;
}

static void target_format(const json_t *target, char *buf, size_t size)
{
    const char *ip = json_string_value(json_object_get(target, "addr"));
    const json_t *port = json_object_get(target, "port");
    if (ip && json_is_integer(port))
        (void)snprintf(buf, size, "port %d of %.50s", (int)json_integer_value(port), ip);
    else if (json_is_integer(port))
        (void)snprintf(buf, size, "port %d", (int)json_integer_value(port));
    else
        (void)snprintf(buf, size, "%.50s", ip ? ip : "another address or port");
}

static void rule_read(struct why_report *r, const json_t *rule)
{
    const json_t *exprs = json_object_get(rule, "expr");
    const char *family = json_string_value(json_object_get(rule, "family"));
    const char *table = json_string_value(json_object_get(rule, "table"));
    const char *chain = json_string_value(json_object_get(rule, "chain"));
    bool matched = false;
    for (size_t i = 0; i < json_array_size(exprs); i++) {
        const json_t *e = json_array_get(exprs, i);
        matched = matched || matches_port(e, r->target.port);
        const json_t *target = json_object_get(e, "redirect");
        if (!target)
            target = json_object_get(e, "dnat");
        if (!target)
            target = json_object_get(e, "tproxy");
        if (!matched || !target)
            continue;
        char to[96], what[160];
        target_format(target, to, sizeof to);
        (void)snprintf(what, sizeof what, "to %s (chain %.10s %.24s %.24s)", to,
                       family ? family : "", table ? table : "", chain ? chain : "");
        redir_add(r, "nftables", what);
    }
}

void redirect_parse_nft(struct why_report *r, const json_t *ruleset)
{
    const json_t *all = json_object_get(ruleset, "nftables");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *rule = json_object_get(json_array_get(all, i), "rule");
        if (rule)
            rule_read(r, rule);
    }
}

/* The word behind `option`, or an empty slice. */
static struct str option_find(struct str line, const char *option)
{
    char *at = memmem(line.p, line.n, option, strlen(option));
    if (!at)
        return (struct str){"", 0};
    struct str word = {at + strlen(option), line.n - (size_t)(at - line.p) - strlen(option)};
    for (size_t i = 0; i < word.n; i++)
        if (word.p[i] == ' ')
            word.n = i;
    return word;
}

/* `80`, `8000:8010`, or a list of those (multiport). */
static bool word_has(struct str word, uint16_t port)
{
    char list[256];
    (void)snprintf(list, sizeof list, STR_FMT, STR_ARG(word));
    for (char *p = list; *p; p++)
        if (*p == ':')
            *p = '-';
    return rules_list_has(list, port);
}

static void line_read(struct why_report *r, struct str line)
{
    struct str port = option_find(line, " --dport ");
    if (port.n == 0)
        port = option_find(line, " --dports ");
    struct str jump = option_find(line, " -j "), chain = option_find(line, "-A ");
    bool udp = str_eq(option_find(line, " -p "), STR("udp"));
    if (port.n == 0 || udp || !word_has(port, r->target.port))
        return;
    char what[160];
    struct str to = option_find(line, " --to-destination ");
    if (str_eq(jump, STR("REDIRECT")))
        to = option_find(line, " --to-ports ");
    else if (str_eq(jump, STR("TPROXY")))
        to = option_find(line, " --on-port ");
    else if (!str_eq(jump, STR("DNAT")))
        return;
    (void)snprintf(what, sizeof what, "to %s%.*s (chain %.*s)",
                   str_eq(jump, STR("DNAT")) ? "" : "port ", (int)(to.n > 60 ? 60 : to.n), to.p,
                   (int)(chain.n > 40 ? 40 : chain.n), chain.p);
    redir_add(r, "iptables", what);
}

void redirect_parse_iptables(struct why_report *r, const char *rules)
{
    while (*rules) {
        size_t n = strcspn(rules, "\n");
        if (strncmp(rules, "-A ", 3) == 0)
            line_read(r, (struct str){rules, n});
        rules += n + (rules[n] == '\n');
    }
}
