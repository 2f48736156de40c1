/* What `berth run --publish` tells berth-peer: which services the program has, and who may dial
 * them. The way to the program is its route in berthd. */
#include <stdio.h>
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

/* The program starts all the same; its output may be long, so nothing is said that is well. */
static void told(const char *service, const char *answer)
{
    json_t *j = json_loads(answer, 0, NULL);
    if (!peerd_is_allowed(j, service))
        (void)fprintf(stderr, "berth run: nobody may dial %s yet: berth allow PEER %s\n", service,
                      service);
    json_decref(j);
    peerd_told("run", answer);
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
    if (status == CLI_OK && text)
        told(name, text);
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
