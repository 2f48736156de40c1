/* The definition of an application comes in; how its worker is started goes out, when that is
 * berth-upstream. */
#include "berthd/upstream.h"

#include <stdio.h>

#include "base/self.h"

bool upstream_wants_header(const struct conf_app *c)
{
    return c->to && c->send_proxy == CONF_SEND_PROXY_V2;
}

int upstream_command_make(const struct conf_app *c, struct upstream_command *ret_command,
                          char reason[REASON_MAX])
{
    struct upstream_command *u = ret_command;
    size_t n = 0;
    if (!c->to)
        return 0;
    if (!self_file("berth-upstream", BERTH_UPSTREAM_INSTALLED, u->path, sizeof u->path)) {
        (void)snprintf(reason, REASON_MAX, "berth-upstream is not where it was installed");
        return -ENOENT;
    }
    u->argv[n++] = u->path;
    u->argv[n++] = (char *)"--to";
    u->argv[n++] = c->to;
    if (c->send_proxy != CONF_SEND_PROXY_OFF) {
        u->argv[n++] = (char *)"--proxy";
        u->argv[n++] = (char *)(c->send_proxy == CONF_SEND_PROXY_V1 ? "v1" : "v2");
    }
    /* A header that comes in goes out as it is, unless another one is wanted. */
    if (c->proxy && c->send_proxy != CONF_SEND_PROXY_OFF)
        u->argv[n++] = (char *)"--proxied";
    u->argv[n] = NULL;
    return 0;
}
