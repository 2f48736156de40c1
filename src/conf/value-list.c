/* Values that are lists: a repeated key adds to them, and so does a second word in one line. */
#include <errno.h>
#include <stdlib.h>

#include "base/target.h"
#include "conf/value.h"

static const struct conf_ops *const ops[CONF_TYPE_COUNT] = {
    [CONF_BOOL] = &conf_ops_bool,       [CONF_COUNT] = &conf_ops_count,
    [CONF_PERCENT] = &conf_ops_percent, [CONF_MODE] = &conf_ops_mode,
    [CONF_SIZE] = &conf_ops_size,       [CONF_DURATION] = &conf_ops_duration,
    [CONF_CHOICE] = &conf_ops_choice,   [CONF_RANGE] = &conf_ops_range,
    [CONF_SPAN] = &conf_ops_span,       [CONF_NAME] = &conf_ops_name,
    [CONF_PATH] = &conf_ops_path,       [CONF_ADDR] = &conf_ops_addr,
    [CONF_HEALTH] = &conf_ops_health,   [CONF_TARGET] = &conf_ops_target,
    [CONF_WORDS] = &conf_ops_words,     [CONF_ENV] = &conf_ops_env,
    [CONF_FILES] = &conf_ops_files,     [CONF_SERVERS] = &conf_ops_servers,
    [CONF_ROUTES] = &conf_ops_routes,   [CONF_ADDRS] = &conf_ops_addrs,
    [CONF_PORTS] = &conf_ops_ports,     [CONF_TIMES] = &conf_ops_times,
};

const struct conf_ops *conf_ops(enum conf_type type)
{
    return ops[type];
}

/* Room for one more and a NULL behind it. Arrays grow when their length is a power of two, so that
 * they need not say how much room they have. */
static void *room_make(void *items, size_t count, size_t size)
{
    if (items && (count + 1) & count)
        return items;
    return reallocarray(items, (count + 1) * 2, size);
}

static int list_add(struct conf_list *l, const char *word)
{
    if (l->count >= CONF_LIST_MAX)
        return -EOVERFLOW;
    char **items = room_make(l->items, l->count, sizeof *items);
    if (!items)
        return -ENOMEM;
    l->items = items;
    items[l->count] = strdup(word);
    if (!items[l->count])
        return -ENOMEM;
    items[++l->count] = NULL;
    return 0;
}

static int too_many(const struct conf_value *v)
{
    return conf_refuse(v, "there are more than %d of these", CONF_LIST_MAX);
}

/* Adds each word for which `good` has no complaint; good may be NULL. */
static int list_parse(const struct conf_value *v, struct conf_list *l,
                      int (*good)(const struct conf_value *v, const char *word))
{
    if (v->words->count == 0)
        return conf_missing(v);
    for (size_t i = 0; i < v->words->count; i++) {
        int r = good ? good(v, v->words->items[i]) : 0;
        if (r == 0)
            r = list_add(l, v->words->items[i]);
        if (r < 0)
            return r == -EOVERFLOW ? too_many(v) : r;
    }
    return 0;
}

static void list_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    const struct conf_list *l = field;
    (void)k;
    conf_word_format(l->items[i], f);
}

static bool list_equal(const void *a, const void *b)
{
    const struct conf_list *x = a, *y = b;
    bool same = x->count == y->count;
    for (size_t i = 0; same && i < x->count; i++)
        same = strcmp(x->items[i], y->items[i]) == 0;
    return same;
}

static void list_done(void *field)
{
    struct conf_list *l = field;
    for (size_t i = 0; i < l->count; i++)
        free(l->items[i]);
    free(l->items);
    *l = (struct conf_list){0};
}

static size_t list_count(const void *field)
{
    return ((const struct conf_list *)field)->count;
}

/* A command */

static int words_parse(const struct conf_value *v, void *field)
{
    if (v->words->count == 0 || !v->words->items[0][0])
        return conf_refuse(v, "the command is empty: write the program and its arguments");
    return list_parse(v, field, NULL);
}

static void words_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    const struct conf_list *l = field;
    (void)i;
    for (size_t n = 0; n < l->count; n++) {
        if (n > 0)
            (void)fputc(' ', f);
        list_format(k, field, n, f);
    }
}

/* Variables, files, routes */

static int env_good(const struct conf_value *v, const char *word)
{
    const char *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : 0;
    bool good = n > 0 && !ascii_is_digit(word[0]);
    for (size_t i = 0; i < n; i++)
        good &= ascii_is_alpha(word[i]) || ascii_is_digit(word[i]) || word[i] == '_';
    return good ? 0
                : conf_refuse(v,
                              "\"%.60s\" is no variable: write KEY=VALUE, in quotes when the "
                              "value has blanks: \"KEY=a b\"",
                              word);
}

static int env_parse(const struct conf_value *v, void *field)
{
    return list_parse(v, field, env_good);
}

static int file_good(const struct conf_value *v, const char *word)
{
    return *word && strlen(word) < 4096
               ? 0
               : conf_refuse(v, "this is no path: %s", conf_ops(v->key->type)->expects);
}

static int files_parse(const struct conf_value *v, void *field)
{
    return list_parse(v, field, file_good);
}

/* The port may be missing. */
static int server_good(const struct conf_value *v, const char *word)
{
    struct target_place place;
    char with_port[TARGET_HOST_MAX + 16];
    (void)snprintf(with_port, sizeof with_port, "%.*s:3478", TARGET_HOST_MAX, word);
    bool good =
        strncmp(word, "unix:", 5) != 0 && strlen(word) < TARGET_HOST_MAX &&
        (target_place_parse(word, &place) == 0 || target_place_parse(with_port, &place) == 0);
    return good ? 0
                : conf_refuse(v, "\"%.60s\" is no server: %s", word,
                              conf_ops(v->key->type)->expects);
}

static int servers_parse(const struct conf_value *v, void *field)
{
    return list_parse(v, field, server_good);
}

static int route_good(const struct conf_value *v, const char *word)
{
    struct route routes[2];
    char reason[ROUTE_REASON_MAX];
    return route_expand(word, routes, reason) < 0 ? conf_refuse(v, "%s", reason) : 0;
}

static int routes_parse(const struct conf_value *v, void *field)
{
    return list_parse(v, field, route_good);
}

/* Routes that say the same in other letters are the same. */
static bool route_equal(const char *a, const char *b)
{
    struct route x[2], y[2];
    if (strcmp(a, b) == 0)
        return true;
    size_t n = conf_route(a, x);
    bool same = n == conf_route(b, y);
    for (size_t i = 0; same && i < n; i++)
        same = route_same(&x[i], &y[i]);
    return same;
}

static bool routes_equal(const void *a, const void *b)
{
    const struct conf_list *x = a, *y = b;
    bool same = x->count == y->count;
    for (size_t i = 0; same && i < x->count; i++)
        same = route_equal(x->items[i], y->items[i]);
    return same;
}

size_t conf_route(const char *text, struct route ret_routes[2])
{
    char reason[ROUTE_REASON_MAX];
    int n = route_expand(text, ret_routes, reason);
    return n < 0 ? 0 : (size_t)n;
}

/* Addresses */

static int addrs_add(struct conf_addrs *l, const struct addr *a)
{
    if (l->count >= CONF_LIST_MAX)
        return -EOVERFLOW;
    struct addr *items = room_make(l->items, l->count, sizeof *items);
    if (!items)
        return -ENOMEM;
    l->items = items;
    items[l->count++] = *a;
    return 0;
}

static int addrs_parse(const struct conf_value *v, void *field)
{
    if (v->words->count == 0)
        return conf_missing(v);
    for (size_t i = 0; i < v->words->count; i++) {
        struct addr a;
        const char *word = v->words->items[i];
        if (addr_parse(word, &a) < 0)
            return conf_refuse(v, "\"%.60s\" is no address: %s", word,
                               conf_ops(v->key->type)->expects);
        if (a.sa.sa_family != AF_UNIX && addr_port(&a) == 0)
            return conf_refuse(v, "\"%.60s\" has the port 0: write the port that clients use",
                               word);
        if (a.sa.sa_family == AF_UNIX && a.un.sun_path[0] != '/')
            return conf_refuse(v, "\"%.60s\": write the path of a socket from the root", word);
        int r = addrs_add(field, &a);
        if (r < 0)
            return r == -EOVERFLOW ? too_many(v) : r;
    }
    return 0;
}

static void addrs_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    const struct conf_addrs *l = field;
    char text[ADDR_TEXT_MAX];
    (void)k;
    conf_word_format(addr_format(&l->items[i], text), f);
}

static bool addrs_equal(const void *a, const void *b)
{
    const struct conf_addrs *x = a, *y = b;
    bool same = x->count == y->count;
    for (size_t i = 0; same && i < x->count; i++)
        same = addr_equal(&x->items[i], &y->items[i]);
    return same;
}

static void addrs_done(void *field)
{
    struct conf_addrs *l = field;
    free(l->items);
    *l = (struct conf_addrs){0};
}

static size_t addrs_count(const void *field)
{
    return ((const struct conf_addrs *)field)->count;
}

/* Ports and times of the day */

static int numbers_add(struct conf_numbers *l, uint32_t n)
{
    if (l->count >= CONF_LIST_MAX)
        return -EOVERFLOW;
    uint32_t *items = room_make(l->items, l->count, sizeof *items);
    if (!items)
        return -ENOMEM;
    l->items = items;
    items[l->count++] = n;
    return 0;
}

static int numbers_parse(const struct conf_value *v, struct conf_numbers *l,
                         int (*take)(const char *word, const struct conf_key *k, uint32_t *ret_n))
{
    if (v->words->count == 0)
        return conf_missing(v);
    for (size_t i = 0; i < v->words->count; i++) {
        uint32_t n;
        if (take(v->words->items[i], v->key, &n) < 0)
            return conf_refuse(v, "\"%.60s\" is not understood: %s", v->words->items[i],
                               conf_ops(v->key->type)->expects);
        int r = numbers_add(l, n);
        if (r < 0)
            return r == -EOVERFLOW ? too_many(v) : r;
    }
    return 0;
}

static int port_take(const char *word, const struct conf_key *k, uint32_t *ret_n)
{
    uint64_t n;
    if (conf_number(&word, k->max, &n) < 0 || *word || n < k->min)
        return -EINVAL;
    *ret_n = (uint32_t)n;
    return 0;
}

static int ports_parse(const struct conf_value *v, void *field)
{
    return numbers_parse(v, field, port_take);
}

static void ports_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    (void)k;
    (void)fprintf(f, "%u", ((const struct conf_numbers *)field)->items[i]);
}

static int time_take(const char *word, const struct conf_key *k, uint32_t *ret_n)
{
    uint64_t hour, minute;
    (void)k;
    if (conf_number(&word, 23, &hour) < 0 || *word++ != ':' || strlen(word) != 2 ||
        conf_number(&word, 59, &minute) < 0 || *word)
        return -EINVAL;
    *ret_n = (uint32_t)(hour * 60 + minute);
    return 0;
}

static int times_parse(const struct conf_value *v, void *field)
{
    return numbers_parse(v, field, time_take);
}

static void times_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    uint32_t n = ((const struct conf_numbers *)field)->items[i];
    (void)k;
    (void)fprintf(f, "%02u:%02u", n / 60, n % 60);
}

static bool numbers_equal(const void *a, const void *b)
{
    const struct conf_numbers *x = a, *y = b;
    return x->count == y->count &&
           (x->count == 0 || memcmp(x->items, y->items, x->count * sizeof *x->items) == 0);
}

static void numbers_done(void *field)
{
    struct conf_numbers *l = field;
    free(l->items);
    *l = (struct conf_numbers){0};
}

static size_t numbers_count(const void *field)
{
    return ((const struct conf_numbers *)field)->count;
}

const struct conf_ops conf_ops_words = {"write the program and its arguments",
                                        words_parse,
                                        words_format,
                                        list_equal,
                                        list_done,
                                        list_count,
                                        .one_line = true};
const struct conf_ops conf_ops_env = {"write KEY=VALUE", env_parse, list_format,
                                      list_equal,        list_done, list_count};
const struct conf_ops conf_ops_files = {"write paths; relative ones begin at the directory",
                                        files_parse,
                                        list_format,
                                        list_equal,
                                        list_done,
                                        list_count};
const struct conf_ops conf_ops_servers = {"write rdv.example:3478, or the name alone",
                                          servers_parse,
                                          list_format,
                                          list_equal,
                                          list_done,
                                          list_count};
const struct conf_ops conf_ops_routes = {
    "write a host as blog.example, or http://blog.example/api/",
    routes_parse,
    list_format,
    routes_equal,
    list_done,
    list_count};
const struct conf_ops conf_ops_addrs = {"write 0.0.0.0:80, [::]:80 or unix:/path",
                                        addrs_parse,
                                        addrs_format,
                                        addrs_equal,
                                        addrs_done,
                                        addrs_count};
const struct conf_ops conf_ops_ports = {"write ports from 1 to 65535, with blanks between them",
                                        ports_parse,
                                        ports_format,
                                        numbers_equal,
                                        numbers_done,
                                        numbers_count};
const struct conf_ops conf_ops_times = {"write times as 03:30, with blanks between them",
                                        times_parse,
                                        times_format,
                                        numbers_equal,
                                        numbers_done,
                                        numbers_count};
