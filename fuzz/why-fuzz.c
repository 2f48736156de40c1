/* The texts that `berth why` reads: questions, cgroups, port lists and packet filter rules. The
 * first byte chooses the reader. */
#include <assert.h>
#include <stdlib.h>

#include "why/parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_target(const char *text)
{
    struct why_target t;
    char reason[WHY_REASON_MAX] = "";
    if (why_target_parse(text, &t, reason) < 0)
        assert(reason[0]);
    else
        assert(t.kind == WHY_PID ? t.pid > 0 : t.port > 0 || t.kind == WHY_ADDR);
}

static void fuzz_rules(const char *text, bool json)
{
    struct why_report *r = calloc(1, sizeof *r);
    if (!r)
        return;
    r->target.port = 80;
    json_t *rules = json ? json_loads(text, 0, NULL) : NULL;
    if (rules)
        redirect_parse_nft(r, rules);
    else
        redirect_parse_iptables(r, text);
    assert(r->redirs_count <= WHY_REDIRS_MAX);
    json_decref(rules);
    free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct why_cgroup cgroup;
    char *text = size > 0 ? malloc(size) : NULL;
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    if (data[0] == 't')
        fuzz_target(text);
    else if (data[0] == 'c')
        why_cgroup_parse(text, &cgroup);
    else if (data[0] == 'l')
        (void)rules_list_has(text, 80);
    else
        fuzz_rules(text, data[0] == 'n');
    free(text);
    return 0;
}
