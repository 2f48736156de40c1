/* What differs between two configurations, and what that asks for. Both stay as they are. */
#include <errno.h>
#include <stdlib.h>

#include "conf/index.h"
#include "conf/reader.h"
#include "conf/value.h"

static bool key_equal(const struct conf_key *k, const void *a, const void *b)
{
    return conf_ops(k->type)->equal(conf_field(a, k), conf_field(b, k));
}

static unsigned compare(enum conf_section section, const void *a, const void *b)
{
    const struct conf_schema *s = conf_schema(section);
    unsigned change = 0;
    for (size_t i = 0; i < s->count; i++)
        if (!key_equal(&s->keys[i], a, b))
            change |= s->keys[i].change;
    return change;
}

unsigned conf_app_compare(const struct conf_app *a, const struct conf_app *b)
{
    return compare(CONF_SECTION_APP, a, b);
}

bool conf_app_equal(const struct conf_app *a, const struct conf_app *b)
{
    return strcmp(a->name, b->name) == 0 && conf_app_compare(a, b) == 0;
}

/* The difference as text */

struct diff {
    FILE *f;
    unsigned change;
};

static const char *change_words(unsigned change)
{
    if (change & CONF_CHANGED_PROCESS)
        return "workers are replaced";
    if (change & CONF_CHANGED_DAEMON)
        return "takes effect when berthd is started again";
    if (change & CONF_CHANGED_ROUTES)
        return "takes effect at once, other routes are not disturbed";
    return "takes effect at once";
}

static void value_print(const struct conf_key *k, const void *object, FILE *f)
{
    const struct conf_ops *ops = conf_ops(k->type);
    const void *field = conf_field(object, k);
    size_t count = ops->count ? ops->count(field) : 1;
    if (count == 0 ||
        ((k->type == CONF_NAME || k->type == CONF_TARGET) && !*(char *const *)field)) {
        (void)fputs("(none)", f);
        return;
    }
    for (size_t i = 0; i < (ops->one_line ? 1 : count); i++) {
        if (i > 0)
            (void)fputc(' ', f);
        ops->format(k, field, i, f);
    }
}

static void object_diff(struct diff *d, enum conf_section section, const char *name,
                        const void *old, const void *new)
{
    const struct conf_schema *s = conf_schema(section);
    for (size_t i = 0; i < s->count; i++) {
        const struct conf_key *k = &s->keys[i];
        if (key_equal(k, old, new))
            continue;
        d->change |= k->change;
        (void)fprintf(d->f, "~ %s%s%s: %s ", s->name, name ? " " : "", name ? name : "", k->name);
        value_print(k, old, d->f);
        (void)fputs(" \u2192 ", d->f);
        value_print(k, new, d->f);
        (void)fprintf(d->f, " (%s)\n", change_words(k->change));
    }
}

static void apps_diff(struct diff *d, const struct conf *old, const struct conf *new)
{
    for (size_t i = 0; i < old->app_count; i++) {
        const struct conf_app *was = &old->apps[i], *is = conf_app_find(new, was->name);
        if (is) {
            object_diff(d, CONF_SECTION_APP, was->name, was, is);
            continue;
        }
        d->change |= CONF_CHANGED_ROUTES | CONF_CHANGED_PROCESS;
        (void)fprintf(d->f, "- app %s\n", was->name);
    }
    for (size_t i = 0; i < new->app_count; i++) {
        if (conf_app_find(old, new->apps[i].name))
            continue;
        d->change |= CONF_CHANGED_ROUTES | CONF_CHANGED_PROCESS;
        (void)fprintf(d->f, "+ app %s\n", new->apps[i].name);
    }
}

static struct conf_index *reserves_index(const struct conf *c)
{
    struct conf_index *x = conf_index_new();
    for (size_t i = 0; x && i < c->reserve_count; i++) {
        if (conf_index_add(x, c->reserves[i].route, (uint32_t)i) >= 0)
            continue;
        conf_index_free(x);
        return NULL;
    }
    return x;
}

static int reserves_diff(struct diff *d, const struct conf *old, const struct conf *new)
{
    struct conf_index *was = reserves_index(old), *is = reserves_index(new);
    for (size_t i = 0; was && is && i < old->reserve_count; i++) {
        const struct conf_reserve *r = &old->reserves[i];
        uint32_t n = conf_index_find(is, r->route);
        if (n != CONF_INDEX_NONE) {
            object_diff(d, CONF_SECTION_RESERVE, r->route, r, &new->reserves[n]);
            continue;
        }
        d->change |= CONF_CHANGED_POLICY;
        (void)fprintf(d->f, "- reserve %s\n", r->route);
    }
    for (size_t i = 0; was && is && i < new->reserve_count; i++) {
        if (conf_index_find(was, new->reserves[i].route) != CONF_INDEX_NONE)
            continue;
        d->change |= CONF_CHANGED_POLICY;
        (void)fprintf(d->f, "+ reserve %s\n", new->reserves[i].route);
    }
    int err = was && is ? 0 : -ENOMEM;
    conf_index_free(was);
    conf_index_free(is);
    return err;
}

int conf_diff(const struct conf *old, const struct conf *new, FILE *f)
{
    struct diff d = {.f = f};
    object_diff(&d, CONF_SECTION_BERTH, NULL, &old->global, &new->global);
    apps_diff(&d, old, new);
    int err = reserves_diff(&d, old, new);
    return err < 0 ? err : (int)d.change;
}
