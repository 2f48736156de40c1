/* The table of `berth top`: JSON of berthd and /proc come in, rows with rates go out. */
#include "cli/top-table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool top_process(pid_t pid, double *ret_cpu_ms, double *ret_memory, double *ret_age_ms)
{
    char path[32], line[1024];
    unsigned long long user, system, started, pages;
    struct timespec boot;
    double tick_ms = 1000.0 / (double)sysconf(_SC_CLK_TCK);
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
    if (f)
        (void)fclose(f);
    line[n] = 0;
    /* The name in brackets may hold anything, brackets, too. Behind it, from the third field on:
     * state, ... */
    const char *p = strrchr(line, ')');
    if (!p || sscanf(p + 1,
                     " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d "
                     "%*d %llu %*u %llu",
                     &user, &system, &started, &pages) != 4)
        return false;
    (void)clock_gettime(CLOCK_BOOTTIME, &boot);
    *ret_cpu_ms = (double)(user + system) * tick_ms;
    *ret_memory = (double)pages * (double)sysconf(_SC_PAGESIZE);
    *ret_age_ms =
        (double)boot.tv_sec * 1e3 + (double)boot.tv_nsec / 1e6 - (double)started * tick_ms;
    return true;
}

static double number(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : TOP_UNKNOWN;
}

/* Unknown is no number: it adds nothing, and what is added to it is known. */
static void add(double *sum, double value)
{
    if (value < 0)
        return;
    *sum = *sum < 0 ? value : *sum + value;
}

static void add_oldest(double *age, double value)
{
    if (value > *age)
        *age = value;
}

/* Names come from users: nothing in them may take over the terminal. */
static void text_copy(char *to, size_t size, const char *from)
{
    (void)snprintf(to, size, "%s", from ? from : "?");
    for (char *p = to; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

static bool process_known(const struct top_row *r, pid_t pid)
{
    for (size_t i = 0; i < r->process_count; i++)
        if (r->processes[i].pid == pid)
            return true;
    return false;
}

static int process_add(struct top_row *r, pid_t pid, double cpu_ms)
{
    struct top_worker *more =
        reallocarray(r->processes, r->process_count + 1, sizeof *r->processes);
    if (!more)
        return -ENOMEM;
    r->processes = more;
    more[r->process_count++] = (struct top_worker){pid, cpu_ms};
    return 0;
}

/* berthd knows best; what it does not say is looked up. */
static int worker_read(struct top_row *r, const json_t *worker, double unix_ms)
{
    pid_t pid = (pid_t)json_integer_value(json_object_get(worker, "pid"));
    double cpu = TOP_UNKNOWN, memory = TOP_UNKNOWN, age = TOP_UNKNOWN;
    double started = number(worker, "started_ms");
    if (pid <= 0)
        return 0;
    (void)top_process(pid, &cpu, &memory, &age);
    if (number(worker, "cpu_ms") >= 0)
        cpu = number(worker, "cpu_ms");
    if (number(worker, "memory") >= 0)
        memory = number(worker, "memory");
    if (started >= 0 && started <= unix_ms)
        age = unix_ms - started;
    add(&r->values[TOP_OPEN], number(worker, "open"));
    add(&r->values[TOP_MEMORY], memory);
    add_oldest(&r->values[TOP_AGE], age);
    return process_add(r, pid, cpu);
}

static int pool_read(struct top_row *r, const json_t *pool, double unix_ms)
{
    size_t i;
    json_t *worker;
    int err = 0;
    json_t *workers = json_object_get(pool, "workers");
    text_copy(r->state, sizeof r->state, json_string_value(json_object_get(pool, "state")));
    r->workers = (double)json_array_size(workers);
    r->workers_max = number(pool, "max");
    r->values[TOP_OPEN] = 0;
    r->values[TOP_WAITING] = number(pool, "parked");
    r->refused = number(pool, "refused");
    json_array_foreach(workers, i, worker)
    {
        int one = worker_read(r, worker, unix_ms);
        err = one < 0 ? one : err;
    }
    return err;
}

static int holders_read(struct top_row *r, const json_t *pids)
{
    size_t i;
    json_t *pid;
    json_array_foreach(pids, i, pid)
    {
        pid_t p = (pid_t)json_integer_value(pid);
        double cpu, memory, age;
        if (process_known(r, p) || !top_process(p, &cpu, &memory, &age))
            continue;
        add(&r->values[TOP_MEMORY], memory);
        add_oldest(&r->values[TOP_AGE], age);
        if (process_add(r, p, cpu) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int bind_read(struct top_row *r, const json_t *bind, bool pool)
{
    size_t i;
    json_t *route;
    json_array_foreach(json_object_get(bind, "routes"), i, route)
        add(&r->delivered, number(route, "connections"));
    if (pool)
        return 0;
    add(&r->values[TOP_WAITING], number(bind, "waiting"));
    if (json_is_true(json_object_get(bind, "orphaned")))
        text_copy(r->state, sizeof r->state, "orphaned");
    else if (json_is_true(json_object_get(bind, "listening")))
        text_copy(r->state, sizeof r->state, "running");
    return holders_read(r, json_object_get(bind, "pids"));
}

static struct top_row row_empty(void)
{
    struct top_row r = {.workers_max = TOP_UNKNOWN, .refused = TOP_UNKNOWN};
    for (size_t i = 0; i < TOP_KEY_COUNT; i++)
        r.values[i] = TOP_UNKNOWN;
    return r;
}

static int row_read(struct top_row *r, const json_t *app, double unix_ms)
{
    size_t i;
    json_t *bind, *pool = json_object_get(app, "pool");
    int err = 0;
    *r = row_empty();
    text_copy(r->name, sizeof r->name, json_string_value(json_object_get(app, "name")));
    text_copy(r->state, sizeof r->state, "started");
    r->pid = pool ? 0 : (pid_t)json_integer_value(json_object_get(app, "pid"));
    if (pool)
        err = pool_read(r, pool, unix_ms);
    json_array_foreach(json_object_get(app, "binds"), i, bind)
    {
        int one = bind_read(r, bind, pool != NULL);
        err = one < 0 ? one : err;
    }
    if (!pool)
        r->workers = (double)r->process_count;
    r->values[TOP_WORKERS] = r->workers;
    return err;
}

static void total_make(struct top_table *t)
{
    struct top_row *sum = &t->total;
    *sum = row_empty();
    text_copy(sum->name, sizeof sum->name, "total");
    for (size_t i = 0; i < t->count; i++) {
        const struct top_row *r = &t->rows[i];
        for (int k = TOP_WORKERS; k < TOP_AGE; k++)
            add(&sum->values[k], r->values[k]);
        add(&sum->delivered, r->delivered);
        add(&sum->refused, r->refused);
        sum->workers += r->workers;
        add_oldest(&sum->values[TOP_AGE], r->values[TOP_AGE]);
    }
}

int top_read(const json_t *list, double at_ms, double unix_ms, struct top_table *ret_table)
{
    size_t i;
    json_t *app, *apps = json_object_get(list, "apps");
    struct top_table t = {.at_ms = at_ms};
    if (!json_is_array(apps))
        return -EPROTO;
    t.rows = calloc(json_array_size(apps) + 1, sizeof *t.rows);
    int err = t.rows ? 0 : -ENOMEM;
    json_array_foreach(apps, i, app)
    {
        if (err == 0)
            err = row_read(&t.rows[t.count++], app, unix_ms);
    }
    if (err < 0) {
        top_free(&t);
        return err;
    }
    total_make(&t);
    *ret_table = t;
    return 0;
}

void top_free(struct top_table *t)
{
    for (size_t i = 0; t->rows && i < t->count; i++)
        free(t->rows[i].processes);
    free(t->rows);
    *t = (struct top_table){.rows = NULL};
}

/* A counter that went back began anew: no rate is better than a wrong one. */
static double rate(double now, double before, double seconds)
{
    return now < 0 || before < 0 || now < before ? TOP_UNKNOWN : (now - before) / seconds;
}

static const struct top_row *row_find(const struct top_table *t, const struct top_row *like)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->rows[i].pid == like->pid && strcmp(t->rows[i].name, like->name) == 0)
            return &t->rows[i];
    return NULL;
}

/* Processor time that the row's processes took since then; one that is new took all of its own. */
static double cpu_between(const struct top_row *now, const struct top_row *before)
{
    double sum = TOP_UNKNOWN;
    for (size_t i = 0; i < now->process_count; i++) {
        double was = 0, is = now->processes[i].cpu_ms;
        for (size_t k = 0; k < before->process_count; k++)
            if (before->processes[k].pid == now->processes[i].pid)
                was = before->processes[k].cpu_ms;
        if (is >= was)
            add(&sum, is - was);
    }
    return sum;
}

void top_rates(struct top_table *now, const struct top_table *before)
{
    double seconds = (now->at_ms - before->at_ms) / 1000;
    if (seconds <= 0)
        return;
    for (size_t i = 0; i < now->count; i++) {
        struct top_row *r = &now->rows[i];
        const struct top_row *was = row_find(before, r);
        if (!was)
            continue;
        double cpu = cpu_between(r, was);
        r->values[TOP_RATE] = rate(r->delivered, was->delivered, seconds);
        r->values[TOP_REFUSED] = rate(r->refused, was->refused, seconds);
        r->values[TOP_CPU] = cpu < 0 ? TOP_UNKNOWN : cpu / seconds / 10;
    }
    total_make(now);
}

struct order {
    enum top_key key;
    bool reverse;
};

static int row_compare(const void *a, const void *b, void *ctx)
{
    const struct top_row *x = a, *y = b;
    const struct order *o = ctx;
    int c = 0;
    if (o->key == TOP_STATE)
        c = strcmp(x->state, y->state);
    else if (o->key != TOP_NAME)
        c = (x->values[o->key] < y->values[o->key]) - (x->values[o->key] > y->values[o->key]);
    if (c == 0)
        c = strcmp(x->name, y->name);
    return o->reverse ? -c : c;
}

void top_sort(struct top_table *t, enum top_key key, bool reverse)
{
    if (t->count > 1)
        qsort_r(t->rows, t->count, sizeof *t->rows, row_compare, &(struct order){key, reverse});
}

static void bytes_text(double v, char buf[TOP_TEXT_MAX])
{
    static const char units[] = "BKMGT";
    size_t u = 0;
    for (; v >= 1024 && units[u + 1]; u++)
        v /= 1024;
    (void)snprintf(buf, TOP_TEXT_MAX, u && v < 100 ? "%.1f%c" : "%.0f%c", v, units[u]);
}

static void age_text(double ms, char buf[TOP_TEXT_MAX])
{
    uint64_t s = (uint64_t)(ms / 1000);
    if (s < 60)
        (void)snprintf(buf, TOP_TEXT_MAX, "%us", (unsigned)s);
    else if (s < 3600)
        (void)snprintf(buf, TOP_TEXT_MAX, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        (void)snprintf(buf, TOP_TEXT_MAX, "%uh%02um", (unsigned)(s / 3600),
                       (unsigned)(s / 60 % 60));
    else
        (void)snprintf(buf, TOP_TEXT_MAX, "%ud%02uh", (unsigned)(s / 86400),
                       (unsigned)(s / 3600 % 24));
}

static void workers_text(const struct top_row *r, char buf[TOP_TEXT_MAX])
{
    if (r->workers_max >= 0)
        (void)snprintf(buf, TOP_TEXT_MAX, "%.0f/%.0f", r->workers, r->workers_max);
    else
        (void)snprintf(buf, TOP_TEXT_MAX, "%.0f", r->workers);
}

const char *top_text(const struct top_row *r, enum top_key key, char buf[TOP_TEXT_MAX])
{
    double v = r->values[key];
    if (key == TOP_NAME)
        return r->name;
    if (key == TOP_STATE)
        return r->state;
    if (key == TOP_WORKERS)
        workers_text(r, buf);
    else if (v < 0)
        return "-";
    else if (key == TOP_MEMORY)
        bytes_text(v, buf);
    else if (key == TOP_AGE)
        age_text(v, buf);
    else if (key == TOP_OPEN || key == TOP_WAITING)
        (void)snprintf(buf, TOP_TEXT_MAX, "%.0f", v);
    else
        (void)snprintf(buf, TOP_TEXT_MAX, "%.1f", v);
    return buf;
}

static json_t *row_json(const struct top_row *r)
{
    static const char *const names[TOP_KEY_COUNT] = {
        [TOP_WORKERS] = "workers",        [TOP_OPEN] = "open",
        [TOP_RATE] = "connections_per_s", [TOP_WAITING] = "waiting",
        [TOP_REFUSED] = "refused_per_s",  [TOP_MEMORY] = "memory",
        [TOP_CPU] = "cpu_percent",        [TOP_AGE] = "age_ms",
    };
    json_t *j = json_object();
    json_t *name = json_string(r->name);
    (void)json_object_set_new(j, "name", name ? name : json_string("?"));
    if (r->state[0])
        (void)json_object_set_new(j, "state", json_string(r->state));
    for (int k = TOP_WORKERS; k < TOP_KEY_COUNT; k++)
        (void)json_object_set_new(j, names[k],
                                  r->values[k] < 0 ? json_null() : json_real(r->values[k]));
    return j;
}

json_t *top_json(const struct top_table *t)
{
    json_t *apps = json_array();
    for (size_t i = 0; i < t->count; i++)
        (void)json_array_append_new(apps, row_json(&t->rows[i]));
    return json_pack("{s:o, s:o}", "apps", apps, "total", row_json(&t->total));
}
