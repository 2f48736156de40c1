/* berth name: claims names at rendezvous servers, gives them back, and lists them. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/peer.h"

static const char help[] =
    "usage: berth name claim NAME --rendezvous HOST:PORT\n"
    "       berth name release NAME --rendezvous HOST:PORT\n"
    "       berth name list [KEY] --rendezvous HOST:PORT\n"
    "\n"
    "A name stands for a key at a rendezvous server. It belongs to the key that claims it first, "
    "for "
    "good,\n"
    "until that key releases it. A name has 1 to 40 letters a-z, digits and inner hyphens; a key "
    "holds 16\n"
    "at most. `list` shows the names that this user's key holds, or another.\n"
    "\n"
    "  --rendezvous HOST:PORT  the server; several times: each of them (else $BERTH_RENDEZVOUS)\n"
    "  --json                  `list` for programs\n";

struct asked {
    enum rdvmsg_type type;
    const char *argument; /* NAME, or KEY for list, or NULL */
    struct rendezvous where;
    bool as_json;
};

static int changed_print(const struct asked *a, const char *server, const struct rdvmsg *answer)
{
    char when[PEER_TIME_MAX];
    if (a->type == RDVMSG_CLAIM)
        (void)printf("%s is yours at %s, since %s\n", a->argument, server,
                     peer_time(answer->number, when));
    else
        (void)printf("%s is free at %s\n", a->argument, server);
    return CLI_OK;
}

static int list_print(const struct asked *a, const char *server, const struct rdvmsg *answer)
{
    json_t *names = json_array();
    for (size_t i = 0; i < answer->name_count; i++) {
        struct str n = answer->names[i];
        if (!record_name_valid(n))
            continue;
        if (!a->as_json)
            (void)printf(STR_FMT "\n", STR_ARG(n));
        (void)json_array_append_new(names, json_stringn(n.p, n.n));
    }
    json_t *j = json_pack("{s:s, s:o}", "server", server, "names", names);
    if (a->as_json && j && json_dumpf(j, stdout, JSON_COMPACT) == 0)
        (void)putchar('\n');
    json_decref(j);
    return CLI_OK;
}

static int ask_one(const struct asked *a, const struct identity *id, const struct key *key,
                   const char *server)
{
    struct client c;
    struct rdvmsg answer;
    int r = client_open(&c, server);
    if (r == 0 && a->type == RDVMSG_LIST)
        r = client_list(&c, key, &answer);
    else if (r == 0)
        r = client_name(&c, id, a->type, str_of(a->argument), &answer);
    int status;
    if (r < 0)
        status = peer_unreachable("name", server, r);
    else if (answer.type == RDVMSG_DONE)
        status = changed_print(a, server, &answer);
    else if (answer.type == RDVMSG_NAMES)
        status = list_print(a, server, &answer);
    else
        status = peer_refused("name", server, &answer);
    client_close(&c);
    return status;
}

/* The key to list: the one given, else our own. */
static int key_choose(const struct asked *a, struct identity *id, struct key *ret_key)
{
    if (a->type != RDVMSG_LIST || !a->argument) {
        int status = peer_identity("name", id);
        *ret_key = id->key;
        return status;
    }
    int r = key_parse(str_of(a->argument), ret_key);
    if (r == -EBADMSG)
        return cli_fail("name", "%s is mistyped: its checksum is wrong", a->argument);
    return r < 0 ? cli_usage("name", "'%s' is no key", a->argument) : CLI_OK;
}

static int ask_all(const struct asked *a)
{
    struct identity id = {.secret = {0}};
    struct key key;
    int status = key_choose(a, &id, &key);
    for (size_t i = 0; status == CLI_OK && i < a->where.count; i++)
        status = ask_one(a, &id, &key, a->where.servers[i]);
    identity_wipe(&id);
    return status;
}

static int words_read(int argc, char **argv, struct asked *a)
{
    static const struct {
        const char *word;
        enum rdvmsg_type type;
    } actions[] = {{"claim", RDVMSG_CLAIM}, {"release", RDVMSG_RELEASE}, {"list", RDVMSG_LIST}};
    const char *word = optind < argc ? argv[optind++] : NULL;
    if (!word)
        return cli_usage("name", "claim, release or list?");
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(word, actions[i].word) == 0)
            a->type = actions[i].type;
    if (a->type == 0)
        return cli_usage("name", "claim, release or list, not '%s'", word);
    a->argument = optind < argc ? argv[optind++] : NULL;
    if (optind < argc)
        return cli_usage("name", "unexpected argument '%s'", argv[optind]);
    if (a->type != RDVMSG_LIST && !a->argument)
        return cli_usage("name", "which name?");
    if (a->type != RDVMSG_LIST && !record_name_valid(str_of(a->argument)))
        return cli_fail("name", "%s", rdv_reason_sentence(RDV_BAD_NAME));
    return peer_servers("name", &a->where);
}

static int option_take(void *ctx, int c)
{
    struct asked *a = ctx;
    if (c == 'r')
        return peer_server_add("name", &a->where, optarg);
    a->as_json = true;
    return CLI_OK;
}

int cmd_name(int argc, char **argv)
{
    static const struct option options[] = {{"rendezvous", required_argument, NULL, 'r'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct asked a = {.argument = NULL};
    const struct cli_options taken = {"name", help, "", options};
    int status = cli_options(&taken, argc, argv, option_take, &a);
    if (status == CLI_OK)
        status = words_read(argc, argv, &a);
    if (status == CLI_OK)
        status = peer_start("name");
    return status == CLI_OK ? ask_all(&a) : status;
}
