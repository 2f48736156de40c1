#pragma once
/* What would happen to a request: the routes of a configuration in the table that dispatch uses,
 * and a request put to it as dispatch would put it after it has sniffed it. */

#include "conf/conf.h"

struct conf_router; /* borrows the configuration */

/* -ENOMEM. */
int conf_router_new(const struct conf *c, struct conf_router **ret_router) WARN_UNUSED;
void conf_router_free(struct conf_router *r);
/* The addresses that applications listen on, each once. */
const struct conf_addrs *conf_router_listeners(const struct conf_router *r);

enum conf_fate {
    CONF_FATE_DELIVERED,
    CONF_FATE_RESERVED, /* refused: the name belongs to somebody who does not serve it */
    CONF_FATE_REFUSED,  /* for `reason` */
    CONF_FATE_NOT_OURS, /* nothing listens there */
};

struct conf_answer {
    enum conf_fate fate;
    const struct conf_app *app;         /* DELIVERED */
    const struct conf_reserve *reserve; /* RESERVED */
    const char *reason;                 /* REFUSED: NoRoute, BadRequest, ... */
    struct addr local;                  /* where the connection arrives; AF_UNSPEC: nowhere */
    bool early;                         /* decided by addresses alone: no byte is read */
    bool assumed;               /* if that application, which has no listen, listens there */
    char route[ROUTE_TEXT_MAX]; /* which one matched, or empty */
};

#define CONF_ANSWERS_MAX 8

/* [METHOD] URL [at ADDRESS] [from ADDRESS], as "GET http://a.example/x from 10.0.0.7". Fills one
 * answer for each outcome that depends on the address where the connection arrives, and returns how
 * many; -EINVAL and a sentence; -ENOMEM. */
int conf_explain(const struct conf_router *r, const char *request,
                 struct conf_answer answers[CONF_ANSWERS_MAX], char *reason,
                 size_t reason_size) WARN_UNUSED;

/* A route that may have been meant when nobody has the name. */
struct conf_near {
    const struct conf_app *app;
    const char *route; /* as written */
};
#define CONF_NEAR_MAX 3
size_t conf_near(const struct conf *c, const char *request, struct conf_near near[CONF_NEAR_MAX]);
