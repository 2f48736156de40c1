/* Asks for a peer and believes nothing: what comes from the server is checked against the key, the
 * clock and what was known before. Only then it goes out, and what is new is remembered. */
#include "cli/found.h"

#include <stdio.h>
#include <time.h>

#include "cli/cli.h"

int target_parse(const char *verb, const char *text, struct target *ret_target)
{
    struct target t = {.name = ""};
    const char *slash = strchr(text, '/');
    struct str who = {text, slash ? (size_t)(slash - text) : strlen(text)};
    struct str service = str_of(slash ? slash + 1 : NULL);
    int r = key_parse(who, &t.key);
    if (r == -EBADMSG)
        return cli_fail(verb, STR_FMT " is mistyped: its checksum is wrong", STR_ARG(who));
    if (r < 0 && !record_name_valid(who))
        return cli_fail(verb, "'" STR_FMT "' is neither a key nor a name: %s", STR_ARG(who),
                        rdv_reason_sentence(RDV_BAD_NAME));
    if (slash && !record_name_valid(service))
        return cli_fail(verb, "'" STR_FMT "' is no service's name", STR_ARG(service));
    if (r < 0)
        memcpy(t.name, who.p, who.n);
    if (slash)
        memcpy(t.service, service.p, service.n);
    *ret_target = t;
    return CLI_OK;
}

static int untrue(const char *verb, const char *server, enum rdv_reason reason)
{
    return cli_fail(verb, "%s shows a record that is refused: %s: %s", server,
                    rdv_reason_word(reason), rdv_reason_sentence(reason));
}

/* What can be said without knowing what was before. */
static enum rdv_reason record_check(const struct target *t, const struct rdvmsg *answer,
                                    struct found *f)
{
    memcpy(f->key.b, answer->key, KEY_BYTES);
    if (!*t->name && !key_equal(&f->key, &t->key))
        return RDV_FORGED;
    f->registered = answer->record.n > 0;
    if (!f->registered)
        return RDV_OK;
    if (answer->record.n > sizeof f->bytes)
        return RDV_BAD_RECORD;
    memcpy(f->bytes, answer->record.p, answer->record.n);
    struct str bytes = {(const char *)f->bytes, answer->record.n};
    enum rdv_reason reason = signed_record_check(bytes);
    if (reason == RDV_OK)
        reason = signed_record_decode(bytes, &f->record);
    if (reason != RDV_OK)
        return reason;
    if (memcmp(f->record.key, f->key.b, KEY_BYTES) != 0)
        return RDV_FORGED;
    return f->record.not_after > (uint64_t)time(NULL) ? RDV_OK : RDV_EXPIRED;
}

static int key_changed(const char *verb, const struct target *t, const struct found *f,
                       const struct known_peer *before)
{
    char old[KEY_TEXT_MAX], new[KEY_TEXT_MAX], when[PEER_TIME_MAX];
    return cli_fail(verb,
                    "KeyChanged: %s is not who it was. Somebody may be pretending to be %s.\n"
                    "  first seen %s:  %s\n"
                    "  %s says now:  %s\n"
                    "If its owner has told you the new key: berth peers accept %s %s",
                    t->name, t->name, peer_time(before->since, when), key_format(&before->key, old),
                    f->server, key_format(&f->key, new), t->name, new);
}

/* With the file open for change. */
static int compare(const char *verb, struct known *k, const struct target *t, struct found *f)
{
    struct known_peer *p = known_find(k, t->name, &f->key);
    f->first_use = !p;
    if (p && !key_equal(&p->key, &f->key))
        return key_changed(verb, t, f, p);
    if (f->registered && f->record.sequence < known_sequence(k, &f->key))
        return untrue(verb, f->server, RDV_REPLAYED);
    if (p && (!f->registered || f->record.sequence == p->sequence))
        return CLI_OK;
    struct known_peer new = {.key = f->key, .since = (uint64_t)time(NULL)};
    memcpy(new.name, t->name, sizeof new.name);
    int r = p ? 0 : known_add(k, &new);
    if (r == 0 && f->registered)
        (p ? p : &k->peers[k->count - 1])->sequence = f->record.sequence;
    if (r == 0)
        r = known_save(k);
    return r < 0 ? cli_fail(verb, "%s cannot be written: %s", k->path, strerror(-r)) : CLI_OK;
}

static int remember(const char *verb, const struct target *t, struct found *f)
{
    char path[4096];
    struct known k;
    size_t line = 0;
    int r = peer_known_path(path, sizeof path);
    if (r < 0)
        return cli_fail(verb, "neither $HOME nor $BERTH_KEY says where known peers are kept");
    r = keys_folder_make(path);
    if (r == 0)
        r = known_open(path, true, &k, &line);
    if (line > 0)
        return cli_fail(verb, "%s: line %zu makes no sense", path, line);
    if (r < 0)
        return cli_fail(verb, "%s: %s", path, strerror(-r));
    int status = compare(verb, &k, t, f);
    known_done(&k);
    return status;
}

static int ask_one(const struct target *t, const char *server, struct client *c,
                   struct rdvmsg *ret_answer)
{
    int r = client_open(c, server);
    return r < 0 ? r : client_lookup(c, str_of(t->name), &t->key, ret_answer);
}

/* The answer's slices point into the client. */
static int take(const char *verb, const struct target *t, const struct rdvmsg *answer,
                struct found *f)
{
    if (answer->type != RDVMSG_FOUND)
        return peer_refused(verb, f->server, answer);
    f->claimed = answer->number;
    f->age_s = answer->age_s;
    enum rdv_reason reason = record_check(t, answer, f);
    return reason == RDV_OK ? remember(verb, t, f) : untrue(verb, f->server, reason);
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
