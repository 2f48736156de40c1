#include "launch/environment.h"

#include <stdlib.h>

#include "test.h"

static char *const *base(void)
{
    static const char *const vars[] = {"PATH=/bin", "LD_PRELOAD=/lib/other.so", "BERTH_PORTS=80",
                                       "A=1=2", NULL};
    return (char *const *)vars;
}

static struct environment_app app_make(void)
{
    static const char *const routes[] = {"a.localhost", "ssh://:443"};
    struct environment_app app = {.control = "/run/berth/control",
                                  .name = "blog",
                                  .command = "node server.js",
                                  .preload = "/lib/berth.so",
                                  .routes = routes,
                                  .route_count = 2,
                                  .proxy = true};
    memset(app.instance, 0xa5, sizeof app.instance);
    return app;
}

TEST("an environment is a copy, in which names are replaced and taken out")
{
    struct environment e;
    environment_init(&e, base());
    CHECK_INT(e.count, 4);
    environment_set(&e, "PATH", "/usr/bin");
    environment_set(&e, "NEW", "");
    environment_put(&e, "A=3");
    environment_put(&e, "no variable");
    environment_unset(&e, "BERTH_PORTS");
    environment_unset(&e, "BERTH");
    CHECK_INT(e.count, 4);
    CHECK(e.vars[4] == NULL);
    CHECK_TEXT(environment_find(&e, "PATH"), "/usr/bin");
    CHECK_TEXT(environment_find(&e, "A"), "3");
    CHECK_TEXT(environment_find(&e, "NEW"), "");
    CHECK(environment_find(&e, "BERTH_PORTS") == NULL);
    CHECK(environment_ok(&e));
    environment_done(&e);
}

TEST("an environment grows to any number of variables")
{
    struct environment e;
    char name[16];
    environment_init(&e, NULL);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "V%d", i);
        environment_set(&e, name, name);
    }
    CHECK_INT(e.count, 1000);
    CHECK_TEXT(environment_find(&e, "V999"), "V999");
    CHECK(environment_ok(&e));
    environment_done(&e);
}

TEST("an application's variables say all that the library needs")
{
    struct environment e;
    struct environment_app app = app_make();
    environment_init(&e, base());
    environment_app(&e, &app);
    CHECK_TEXT(environment_find(&e, "BERTH_CONTROL"), "/run/berth/control");
    CHECK_TEXT(environment_find(&e, "BERTH_APP"), "blog");
    CHECK_TEXT(environment_find(&e, "BERTH_INSTANCE"), "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5");
    CHECK_TEXT(environment_find(&e, "BERTH_ROUTES"), "a.localhost ssh://:443");
    CHECK_TEXT(environment_find(&e, "BERTH_LISTEN"), "");
    CHECK_TEXT(environment_find(&e, "BERTH_FLAGS"), "proxy");
    CHECK_TEXT(environment_find(&e, "BERTH_COMMAND"), "node server.js");
    CHECK(environment_find(&e, "BERTH_PORTS") == NULL);
    CHECK_TEXT(environment_find(&e, "LD_PRELOAD"), "/lib/berth.so:/lib/other.so");
    environment_done(&e);
}

TEST("a long LD_PRELOAD is kept whole, and an empty one leaves no colon")
{
    struct environment e;
    struct environment_app app = app_make();
    size_t size = 20000;
    char *other = malloc(size + 1);
    memset(other, 'x', size);
    other[size] = 0;
    environment_init(&e, NULL);
    environment_set(&e, "LD_PRELOAD", other);
    environment_app(&e, &app);
    CHECK_INT(strlen(environment_find(&e, "LD_PRELOAD")), strlen(app.preload) + 1 + size);
    environment_set(&e, "LD_PRELOAD", "");
    environment_app(&e, &app);
    CHECK_TEXT(environment_find(&e, "LD_PRELOAD"), "/lib/berth.so");
    environment_done(&e);
    free(other);
}

TEST("an application that takes its queue from LISTEN_FDS is not preloaded into")
{
    struct environment e;
    struct environment_app app = app_make();
    app.preload = NULL;
    environment_init(&e, base());
    environment_app(&e, &app);
    CHECK(environment_find(&e, "LD_PRELOAD") == NULL);
    environment_done(&e);
}
