/* Which rendezvous servers are asked: those on the command line, else in the environment, else in
 * the configuration, else the one that was built in. Texts from the configuration live until the
 * command ends. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/peer.h"
#include "conf/conf.h"
#include "keys/place.h"
#include "rendezvous/server-name.h"

static void add(struct rendezvous *r, const char *server)
{
    if (server && *server && r->count < RENDEZVOUS_MAX)
        r->servers[r->count++] = server;
}

/* A configuration with a mistake names none; `berth check` says which mistake. */
static void configured(struct rendezvous *r, const char *path)
{
    struct conf_errors errors = {.items = NULL};
    struct conf *c = NULL;
    if (r->count == 0 && conf_read(path, &c, &errors) == 0)
        for (size_t i = 0; i < c->global.rendezvous.count; i++)
            add(r, strdup(c->global.rendezvous.items[i]));
    conf_errors_done(&errors);
    conf_free(c);
}

/* The file beside the key is the user's own, also root's; the system's is for all users. */
static void configured_somewhere(struct rendezvous *r)
{
    char own[4096];
    if (key_place("berth.conf", own, sizeof own) == 0)
        configured(r, own);
    configured(r, NULL);
    configured(r, "/etc/berth");
}

int peer_server_add(const char *verb, struct rendezvous *r, const char *server)
{
    struct server_name name;
    if (r->count == RENDEZVOUS_MAX)
        return cli_usage(verb, "more than %d servers", RENDEZVOUS_MAX);
    if (server_name_parse(server, &name) < 0)
        return cli_usage(verb, "--rendezvous takes HOST:PORT, not '%s'", server);
    r->servers[r->count++] = server;
    return CLI_OK;
}

void peer_servers_default(struct rendezvous *r)
{
    if (r->count == 0)
        add(r, getenv("BERTH_RENDEZVOUS"));
    if (r->count == 0)
        configured_somewhere(r);
    if (r->count == 0)
        add(r, BERTH_RENDEZVOUS_BUILTIN);
}

int peer_servers(const char *verb, struct rendezvous *r)
{
    peer_servers_default(r);
    if (r->count == 0)
        return cli_usage(verb, "which server is to be asked? --rendezvous HOST:PORT, "
                               "$BERTH_RENDEZVOUS, or rendezvous = HOST:PORT in [berth] of "
                               "berth.conf");
    return CLI_OK;
}
