/* A value back into the text it can be read from. */
#include <errno.h>

#include "conf/reader.h"
#include "conf/value.h"

static bool has_value(const struct conf_key *k, const void *field)
{
    const struct conf_ops *ops = conf_ops(k->type);
    if (ops->count)
        return ops->count(field) > 0;
    if (k->type == CONF_NAME || k->type == CONF_TARGET || k->type == CONF_PATH)
        return *(char *const *)field || k->zero;
    return true;
}

static void key_format(const struct conf_key *k, const void *object, FILE *f)
{
    const struct conf_ops *ops = conf_ops(k->type);
    const void *field = conf_field(object, k);
    size_t count = ops->count && !ops->one_line ? ops->count(field) : 1;
    for (size_t i = 0; i < count && has_value(k, field); i++) {
        (void)fprintf(f, "%s = ", k->name);
        ops->format(k, field, i, f);
        (void)fputc('\n', f);
    }
}

static int object_format(enum conf_section section, const void *object, bool all, FILE *f)
{
    const struct conf_schema *s = conf_schema(section);
    const struct conf_place *place = (const struct conf_place *)((const char *)object + s->place);
    for (size_t i = 0; i < s->count; i++)
        if (all || place->given >> i & 1)
            key_format(&s->keys[i], object, f);
    return ferror(f) ? -EIO : 0;
}

int conf_app_format(const struct conf_app *a, bool all, FILE *f)
{
    (void)fprintf(f, "[app %s]\n", a->name);
    return object_format(CONF_SECTION_APP, a, all, f);
}

int conf_global_format(const struct conf_global *g, bool all, FILE *f)
{
    (void)fputs("[berth]\n", f);
    return object_format(CONF_SECTION_BERTH, g, all, f);
}

int conf_reserve_format(const struct conf_reserve *r, bool all, FILE *f)
{
    (void)fprintf(f, "[reserve %s]\n", r->route);
    return object_format(CONF_SECTION_RESERVE, r, all, f);
}
