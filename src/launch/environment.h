#pragma once
/* The environment of a program that is about to be started: a list of "NAME=value" that grows, and
 * the part of it that the preloaded library and libberth read. The error (no memory) is sticky, as
 * in base/wr.h: environment_ok() says so once, at the end. */

#include "wire/appmsg.h"

struct environment {
    char **vars; /* owned, ended by NULL; NULL itself while there is no variable */
    size_t count, room;
    bool failed;
};

/* What one application is, for the library in its programs. All texts are borrowed. */
struct environment_app {
    const char *control; /* the path of berthd's control socket */
    const char *name;
    const char *command; /* for people */
    const char *ports;   /* only these are shared, as in "8080,8443"; NULL: all */
    const char *preload; /* the library's path; NULL: the program takes its queue in LISTEN_FDS */
    const char *const *routes;
    size_t route_count;
    const char *const *listens;
    size_t listen_count;
    uint8_t instance[APPMSG_INSTANCE];
    bool proxy;
};

/* A copy of the variables of `base`, which may be NULL. */
void environment_init(struct environment *e, char *const *base);
void environment_done(struct environment *e);
bool environment_ok(const struct environment *e);

/* Sets, or replaces. */
void environment_set(struct environment *e, const char *name, const char *value);
/* The same for a whole "NAME=value"; a text without '=' is ignored. */
void environment_put(struct environment *e, const char *var);
void environment_unset(struct environment *e, const char *name);
/* The value, which may be written over in place, or NULL. Valid until the next change. */
char *environment_find(const struct environment *e, const char *name);

/* The BERTH_* variables of the application; its library goes before what LD_PRELOAD has. Without
 * `preload` the variable goes. */
void environment_app(struct environment *e, const struct environment_app *app);

/* The items with a blank between them, to be free()d; NULL without memory. */
char *environment_join(const char *const *items, size_t count);
