/* Reads what `berth run` put into the environment and copies it: programs overwrite their
 * environment (setproctitle) and scrub it (nginx), and need it again for what they execute.
 * A program that gains privileges on exec never gets here: the loader does not preload a path into
 * one (ld.so(8), secure-execution mode). */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "launch/preload/shim.h"

#define ENV_TEXT_MAX 32768

static const char *const names[ENV_VARS_MAX] = {
    "LD_PRELOAD",  "BERTH_CONTROL", "BERTH_APP",   "BERTH_INSTANCE", "BERTH_ROUTES",
    "BERTH_PORTS", "BERTH_LISTEN",  "BERTH_FLAGS", "BERTH_COMMAND",
};

/* Copies "NAME=value" of each variable that is set into text. */
static bool vars_copy(struct env *env, char text[ENV_TEXT_MAX])
{
    size_t used = 0, count = 0;
    for (size_t i = 0; i < ENV_VARS_MAX; i++) {
        const char *value = getenv(names[i]);
        if (!value)
            continue;
        size_t name_size = strlen(names[i]), size = name_size + 1 + strlen(value) + 1;
        if (size > ENV_TEXT_MAX - used)
            return false;
        char *at = text + used;
        memcpy(at, names[i], name_size);
        at[name_size] = '=';
        memcpy(at + name_size + 1, value, size - name_size - 1);
        env->vars[count++] = at;
        used += size;
    }
    return true;
}

static const char *var_value(const struct env *env, const char *name)
{
    size_t n = strlen(name);
    for (char *const *v = env->vars; *v; v++)
        if (strncmp(*v, name, n) == 0 && (*v)[n] == '=')
            return *v + n + 1;
    return NULL;
}

/* Takes the next word off *rest. */
static bool word_next(struct str *rest, struct str *ret_word)
{
    while (rest->n > 0 && *rest->p == ' ')
        *rest = str_skip(*rest, 1);
    size_t n = 0;
    while (n < rest->n && rest->p[n] != ' ')
        n++;
    *ret_word = (struct str){rest->p, n};
    *rest = str_skip(*rest, n);
    return n > 0;
}

static uint8_t words_split(struct str text, struct str *words, uint8_t max)
{
    uint8_t count = 0;
    while (count < max && word_next(&text, &words[count]))
        count++;
    return count;
}

static bool hello_encode(struct env *env)
{
    struct appmsg m = {.type = APPMSG_APP,
                       .name = str_of(var_value(env, "BERTH_APP")),
                       .command = str_of(var_value(env, "BERTH_COMMAND"))};
    if (!appmsg_instance_parse(str_of(var_value(env, "BERTH_INSTANCE")), m.instance))
        return false;
    m.route_count =
        words_split(str_of(var_value(env, "BERTH_ROUTES")), m.routes, APPMSG_ROUTES_MAX);
    m.listen_count =
        words_split(str_of(var_value(env, "BERTH_LISTEN")), m.listens, APPMSG_LISTENS_MAX);
    struct str flags = str_of(var_value(env, "BERTH_FLAGS")), word;
    while (word_next(&flags, &word))
        m.flags |= str_eq(word, STR("proxy")) ? APPMSG_PROXY : 0;
    int n = appmsg_encode(&m, env->hello, sizeof env->hello);
    env->hello_size = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static bool env_load(struct env *env, char text[ENV_TEXT_MAX])
{
    if (!getenv("BERTH_CONTROL") || !getenv("BERTH_INSTANCE"))
        return false;
    if (!vars_copy(env, text) || !hello_encode(env)) {
        say("the environment that `berth run` made was changed: no port will be shared");
        return false;
    }
    struct str path = str_of(var_value(env, "BERTH_CONTROL"));
    if (path.n == 0 || path.n >= sizeof env->control.sun_path)
        return false;
    env->control.sun_family = AF_UNIX;
    memcpy(env->control.sun_path, path.p, path.n);
    env->ports = var_value(env, "BERTH_PORTS");
    const char *folder = getenv("BERTH_RUNTIME_DIR");
    env->user = getuid();
    env->chosen = folder && *folder;
    return true;
}

const struct env *env_get(void)
{
    static struct env env;
    static char text[ENV_TEXT_MAX];
    static atomic_int state; /* 0 unread, 1 there, 2 none */
    int s = atomic_load_explicit(&state, memory_order_acquire);
    if (s == 0) {
        s = env_load(&env, text) ? 1 : 2;
        atomic_store_explicit(&state, s, memory_order_release);
    }
    return s == 1 ? &env : NULL;
}

bool env_shares_port(const struct env *env, uint16_t port)
{
    if (port == 0 || !env->ports)
        return port != 0;
    for (const char *p = env->ports; *p;) {
        char *end;
        if (strtoul(p, &end, 10) == port)
            return true;
        end += strcspn(end, ",");
        p = *end ? end + 1 : end;
    }
    return false;
}

/* Descriptors that an exec passed on are the low ones: a server opens its listeners first. */
#define INHERITED_MAX 64

__attribute__((constructor)) static void shim_start(void)
{
    struct queue_name name;
    if (env_get())
        for (int fd = 0; fd < INHERITED_MAX; fd++)
            (void)queue_find(fd, &name);
}
