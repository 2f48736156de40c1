/* Asks the servers in turn for a peer; what they say is checked and remembered by
 * rendezvous/found.c. */
#include "cli/found.h"

#include <stdio.h>

#include "cli/cli.h"

int found_target(const char *verb, const char *text, struct target *ret_target)
{
    char trouble[FOUND_TROUBLE_MAX];
    int r = target_parse(text, ret_target, trouble, sizeof trouble);
    return r < 0 ? cli_fail(verb, "%s", trouble) : CLI_OK;
}

static int remember(const char *verb, const struct target *t, struct found *f)
{
    char path[4096], trouble[FOUND_TROUBLE_MAX];
    if (peer_known_path(path, sizeof path) < 0)
        return cli_fail(verb, "neither $HOME nor $BERTH_KEY says where known peers are kept");
    int r = found_remember(path, t, f, trouble, sizeof trouble);
    return r < 0 ? cli_fail(verb, "%s", trouble) : CLI_OK;
}

static int ask_one(const struct target *t, const char *server, struct client *c,
                   struct rdvmsg *ret_answer)
{
    int r = client_open(c, server);
    return r < 0 ? r : client_lookup(c, str_of(t->name), &t->key, ret_answer);
}

/* Several peers may be meant by one command: it is said which. */
static int refused(const char *verb, const struct target *t, const char *server,
                   const struct rdvmsg *answer)
{
    char key[KEY_TEXT_MAX];
    if (answer->type != RDVMSG_ERROR)
        return peer_refused(verb, server, answer);
    return cli_fail(verb, "%s: %s: %s: %s", *t->name ? t->name : key_format(&t->key, key), server,
                    rdv_reason_word(answer->reason), rdv_reason_sentence(answer->reason));
}

/* The answer's slices point into the client. */
static int take(const char *verb, const struct target *t, const struct rdvmsg *answer,
                struct found *f)
{
    if (answer->type != RDVMSG_FOUND)
        return refused(verb, t, f->server, answer);
    char trouble[FOUND_TROUBLE_MAX];
    int r = found_check(t, answer, f, trouble, sizeof trouble);
    return r < 0 ? cli_fail(verb, "%s", trouble) : remember(verb, t, f);
}

static bool is_known_there(int r, const struct rdvmsg *answer)
{
    return r == 0 && !(answer->type == RDVMSG_ERROR && (answer->reason == RDV_UNKNOWN_NAME ||
                                                        answer->reason == RDV_NOT_REGISTERED));
}

int found_ask(const char *verb, const struct target *t, const struct rendezvous *where,
              struct found *ret_found)
{
    int status = CLI_TROUBLE;
    for (size_t i = 0; i < where->count; i++) {
        struct client c;
        struct rdvmsg answer = {.type = RDVMSG_ERROR};
        struct found *f = ret_found;
        *f = (struct found){.server = where->servers[i]};
        int r = ask_one(t, f->server, &c, &answer);
        bool last = is_known_there(r, &answer) || i + 1 == where->count;
        if (last)
            status = r < 0 ? peer_unreachable(verb, f->server, r) : take(verb, t, &answer, f);
        client_close(&c);
        if (last)
            break;
    }
    return status;
}
