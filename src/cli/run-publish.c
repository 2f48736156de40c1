/* What `berth run --publish` tells berth-peer: which services the program has, and who may dial
 * them. The way to the program is its route in berthd. */
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/peerd.h"
#include "cli/run.h"

#define ROUTE_PREFIX "peer://"

static int allowed_add(const struct run *r, struct peerd_ask *a)
{
    struct rendezvous where = {.count = 0};
    int status = CLI_OK;
    for (size_t i = 0; status == CLI_OK && i < r->allowed_count; i++) {
        if (strcmp(r->allowed[i], "anyone") == 0)
            peerd_arg(a, "anyone", "1");
        else
            status = peerd_allow_arg("run", a, r->allowed[i], &where);
    }
    return status;
}

/* peer://NAME or peer://NAME:PORT. */
static int publish(const struct run *r, const char *route)
{
    const struct rendezvous where = {.count = 0};
    struct peerd_ask a;
    char name[RECORD_NAME_MAX + 1] = "", *text = NULL;
    const char *rest = route + strlen(ROUTE_PREFIX);
    size_t n = strcspn(rest, ":");
    memcpy(name, rest, n < sizeof name ? n : sizeof name - 1);
    peerd_begin(&a, "publish");
    peerd_arg(&a, "service", name);
    peerd_arg(&a, "port", rest[n] ? rest + n + 1 : "0");
    peerd_servers(&a, &where);
    int status = allowed_add(r, &a);
    if (status == CLI_OK)
        status = peerd_run("run", &a, true, &text);
    free(text);
    peerd_end(&a);
    return status;
}

int run_publish(const struct run *r)
{
    int status = r->published_count > 0 ? peer_start("run") : CLI_OK;
    for (size_t i = 0; status == CLI_OK && i < r->published_count; i++)
        status = publish(r, r->published[i]);
    return status;
}
