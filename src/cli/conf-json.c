/* Goes through the schema as the reader does: a new key appears by itself. */
#include "cli/conf-json.h"

#include <stdlib.h>

#include "cli/cli.h"
#include "conf/schema.h"
#include "conf/value.h"

static json_t *numbers_json(const struct conf_numbers *n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n->count; i++)
        (void)json_array_append_new(list, json_integer(n->items[i]));
    return list;
}

static json_t *range_json(const struct conf_range *r)
{
    return json_pack("[I, I]", (json_int_t)r->low, (json_int_t)r->high);
}

/* Item i as the configuration would have it, without quotes. */
static json_t *text_json(const struct conf_key *k, const void *field, size_t i)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return json_null();
    conf_ops(k->type)->format(k, field, i, f);
    (void)fclose(f);
    json_t *j = n > 0 ? json_string(text) : json_null();
    free(text);
    return j;
}

static json_t *words_json(const struct conf_list *l)
{
    json_t *list = json_array();
    for (size_t i = 0; i < l->count; i++)
        (void)json_array_append_new(list, json_string(l->items[i]));
    return list;
}

static json_t *texts_json(const struct conf_key *k, const void *field)
{
    json_t *list = json_array();
    for (size_t i = 0; i < conf_ops(k->type)->count(field); i++)
        (void)json_array_append_new(list, text_json(k, field, i));
    return list;
}

static json_t *name_json(const char *text)
{
    return text ? json_string(text) : json_null();
}

static json_t *value_json(const struct conf_key *k, const void *field)
{
    switch (k->type) {
    case CONF_BOOL:
        return json_boolean(*(const bool *)field);
    case CONF_COUNT:
    case CONF_PERCENT:
        return json_integer(*(const uint32_t *)field);
    case CONF_SIZE:
    case CONF_DURATION:
        return json_integer((json_int_t) * (const uint64_t *)field);
    case CONF_RANGE:
    case CONF_SPAN:
        return range_json(field);
    case CONF_PORTS:
        return numbers_json(field);
    case CONF_NAME:
    case CONF_PATH:
        return name_json(*(char *const *)field);
    case CONF_WORDS:
    case CONF_ENV:
    case CONF_FILES:
    case CONF_ROUTES:
        return words_json(field);
    default:
        return conf_ops(k->type)->count ? texts_json(k, field) : text_json(k, field, 0);
    }
}

static json_t *object_json(enum conf_section section, const void *object)
{
    const struct conf_schema *s = conf_schema(section);
    json_t *j = json_object();
    for (size_t i = 0; i < s->count; i++)
        (void)json_object_set_new(j, s->keys[i].name,
                                  value_json(&s->keys[i], conf_field(object, &s->keys[i])));
    return j;
}

static void place_add(json_t *j, const struct conf_place *p)
{
    (void)json_object_set_new(j, "file", json_string(p->file));
    (void)json_object_set_new(j, "line", json_integer(p->line));
}

json_t *conf_json(const struct conf *c)
{
    json_t *apps = json_array(), *reserved = json_array();
    for (size_t i = 0; i < c->app_count; i++) {
        json_t *app = object_json(CONF_SECTION_APP, &c->apps[i]);
        (void)json_object_set_new(app, "name", json_string(c->apps[i].name));
        place_add(app, &c->apps[i].place);
        (void)json_array_append_new(apps, app);
    }
    for (size_t i = 0; i < c->reserve_count; i++) {
        json_t *reserve = object_json(CONF_SECTION_RESERVE, &c->reserves[i]);
        (void)json_object_set_new(reserve, "route", json_string(c->reserves[i].route));
        place_add(reserve, &c->reserves[i].place);
        (void)json_array_append_new(reserved, reserve);
    }
    return json_pack("{s:o, s:o, s:o}", "berth", object_json(CONF_SECTION_BERTH, &c->global),
                     "apps", apps, "reserved", reserved);
}

json_t *conf_json_errors(const struct conf_errors *e)
{
    json_t *list = json_array();
    for (size_t i = 0; i < e->count; i++) {
        const struct conf_error *x = &e->items[i];
        (void)json_array_append_new(list, json_pack("{s:s, s:i, s:s, s:s, s:s}", "file", x->file,
                                                    "line", (int)x->line, "section", x->section,
                                                    "key", x->key, "message", x->sentence));
    }
    return list;
}

int conf_json_print(const char *verb, json_t *j)
{
    int err = j ? json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII) : -1;
    json_decref(j);
    (void)fputc('\n', stdout);
    if (err < 0 || fflush(stdout) != 0)
        return cli_fail(verb, "the answer cannot be written");
    return CLI_OK;
}
