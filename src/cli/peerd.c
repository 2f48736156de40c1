/* Questions to berth-peer: put together, sent, and what is refused told to people. */
#include "cli/peerd.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/found.h"

void peerd_begin(struct peerd_ask *a, const char *verb)
{
    *a = (struct peerd_ask){.verb = verb, .argv = {verb}};
}

void peerd_arg(struct peerd_ask *a, const char *key, const char *value)
{
    char *text = NULL;
    if (a->count < PEERD_ARGS_MAX && asprintf(&text, "%s=%s", key, value) > 0)
        a->argv[a->count + 1] = text;
    a->count++;
}

void peerd_servers(struct peerd_ask *a, const struct rendezvous *where)
{
    struct rendezvous all = *where;
    peer_servers_default(&all);
    for (size_t i = 0; i < all.count; i++)
        peerd_arg(a, "rendezvous", all.servers[i]);
}

void peerd_end(struct peerd_ask *a)
{
    for (size_t i = 0; i < a->count && i < PEERD_ARGS_MAX; i++)
        free((char *)a->argv[i + 1]);
    free(a->reason);
    *a = (struct peerd_ask){.verb = NULL};
}

/* It cannot say why it does not start, for it has no terminal any more: we look first. */
static int key_check(const char *verb)
{
    struct identity id;
    int status = peer_start(verb);
    if (status == CLI_OK)
        status = peer_identity(verb, &id);
    if (status == CLI_OK)
        identity_wipe(&id);
    return status;
}

int peerd_connect(const char *verb, bool start, int *ret_fd)
{
    int fd = daemon_peer_connect(false);
    if (fd == -ENOENT && !start)
        return cli_fail(verb, "no berth-peer runs: nothing is published or dialled");
    if (fd == -ENOENT || fd == -ECONNREFUSED) {
        int status = key_check(verb);
        if (status != CLI_OK)
            return status;
        fd = daemon_peer_connect(start);
    }
    if (fd < 0)
        return cli_fail(verb, "berth-peer cannot be reached: %s", strerror(-fd));
    *ret_fd = fd;
    return CLI_OK;
}

int peerd_send(struct peerd_ask *a, int fd, int send_fd, char **ret_text)
{
    int r = peerd_ask_only(a, fd, send_fd);
    *ret_text = NULL;
    return r < 0 ? r : peerd_answer(a, fd, ret_text);
}

int peerd_ask_only(struct peerd_ask *a, int fd, int send_fd)
{
    return a->count > PEERD_ARGS_MAX ? -E2BIG : daemon_send(fd, a->argv, send_fd);
}

int peerd_answer(struct peerd_ask *a, int fd, char **ret_text)
{
    int r = daemon_answer(fd, ret_text);
    if (r < 0) {
        free(a->reason);
        a->reason = *ret_text;
        *ret_text = NULL;
    }
    return r;
}

int peerd_run(const char *verb, struct peerd_ask *a, bool start, char **ret_text)
{
    CLEANUP_FD int fd = -EBADF;
    int status = peerd_connect(verb, start, &fd);
    *ret_text = NULL;
    if (status != CLI_OK)
        return status;
    int r = peerd_send(a, fd, -EBADF, ret_text);
    return r < 0 ? cli_fail(verb, "%s", a->reason ? a->reason : strerror(-r)) : CLI_OK;
}

bool peerd_is_known(const json_t *answer)
{
    size_t i;
    const json_t *s;
    json_array_foreach(json_object_get(answer, "servers"), i,
                       s) if (json_is_true(json_object_get(s, "allow_known"))) return true;
    return false;
}

bool peerd_is_allowed(const json_t *answer, const char *service)
{
    size_t i;
    const json_t *s;
    json_array_foreach(json_object_get(answer, "services"), i,
                       s) if (strcmp(json_string_value(json_object_get(s, "service")), service) ==
                              0) return json_is_true(json_object_get(s, "anyone")) ||
        json_array_size(json_object_get(s, "allowed")) > 0;
    return false;
}

void peerd_told(const char *verb, const char *answer)
{
    json_t *j = json_loads(answer, 0, NULL);
    if (json_array_size(json_object_get(j, "servers")) > 0 && !peerd_is_known(j))
        (void)fprintf(stderr, "berth %s: done, but no rendezvous server knows of it yet\n", verb);
    json_decref(j);
}

int peerd_or_servers(const char *verb, struct rendezvous *where)
{
    const char *fallback = getenv("BERTH_RENDEZVOUS");
    CLEANUP_FD int fd = -EBADF;
    char *text = NULL;
    size_t i;
    const json_t *s;
    if (where->count > 0 || (fallback && *fallback))
        return peer_servers(verb, where);
    fd = daemon_peer_connect(false);
    const char *argv[] = {"status", NULL};
    json_t *j = fd >= 0 && daemon_command(fd, argv, -EBADF, NULL, &text) == 0
                    ? json_loads(text, 0, NULL)
                    : NULL;
    json_array_foreach(json_object_get(j, "servers"), i, s)
    {
        /* Kept until the command ends. */
        char *name = strdup(json_string_value(json_object_get(s, "server")));
        if (name && where->count < RENDEZVOUS_MAX)
            where->servers[where->count++] = name;
    }
    json_decref(j);
    free(text);
    return peer_servers(verb, where);
}

static bool pinned(const char *name, struct key *ret_key)
{
    char path[4096];
    struct known k;
    size_t line;
    if (peer_known_path(path, sizeof path) < 0 || known_open(path, false, &k, &line) < 0)
        return false;
    const struct known_peer *p = known_by_name(&k, name);
    if (p)
        *ret_key = p->key;
    known_done(&k);
    return p != NULL;
}

int peerd_key_of(const char *verb, const char *who, struct rendezvous *where, struct key *ret_key)
{
    struct target t;
    struct found f;
    int status = found_target(verb, who, &t);
    if (status != CLI_OK)
        return status;
    if (*t.service)
        return cli_usage(verb, "'%s': a peer is meant, not a service", who);
    *ret_key = t.key;
    if (!*t.name || pinned(t.name, ret_key))
        return CLI_OK;
    status = peerd_or_servers(verb, where);
    if (status == CLI_OK)
        status = found_ask(verb, &t, where, &f);
    if (status == CLI_OK)
        *ret_key = f.key;
    return status;
}

/* KEY, or KEY:NAME where it was given by name. */
int peerd_allow_arg(const char *verb, struct peerd_ask *a, const char *who,
                    struct rendezvous *where)
{
    struct key key;
    char text[KEY_TEXT_MAX], both[KEY_TEXT_MAX + RECORD_NAME_MAX + 2];
    int status = peerd_key_of(verb, who, where, &key);
    if (status != CLI_OK)
        return status;
    bool named = record_name_valid(str_of(who));
    (void)snprintf(both, sizeof both, "%s%s%s", key_format(&key, text), named ? ":" : "",
                   named ? who : "");
    peerd_arg(a, "allow", both);
    return CLI_OK;
}
