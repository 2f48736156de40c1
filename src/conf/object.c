/* A struct whose fields are the keys of a section: its defaults, and freeing what it owns. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "conf/reader.h"
#include "conf/value.h"

int conf_defaults(enum conf_section section, struct conf_words *words, void *object)
{
    const struct conf_schema *s = conf_schema(section);
    char reason[CONF_REASON_MAX];
    for (size_t i = 0; i < s->count; i++) {
        const struct conf_key *k = &s->keys[i];
        if (!k->preset)
            continue;
        const struct conf_value v = {k, words, reason};
        int r = conf_words_split(str_of(k->preset), words, reason);
        if (r == 0)
            r = conf_ops(k->type)->parse(&v, (char *)object + k->offset);
        if (r == -ENOMEM)
            return r;
        assert(r == 0); /* the table is ours */
    }
    return 0;
}

int conf_app_init(struct conf_app *ret_app)
{
    struct conf_words *words = malloc(sizeof *words);
    *ret_app = (struct conf_app){0};
    int r = words ? conf_defaults(CONF_SECTION_APP, words, ret_app) : -ENOMEM;
    free(words);
    return r;
}

void conf_object_done(enum conf_section section, void *object)
{
    const struct conf_schema *s = conf_schema(section);
    for (size_t i = 0; i < s->count; i++) {
        const struct conf_ops *ops = conf_ops(s->keys[i].type);
        if (ops->done)
            ops->done((char *)object + s->keys[i].offset);
    }
}

void conf_free(struct conf *c)
{
    if (!c)
        return;
    conf_object_done(CONF_SECTION_BERTH, &c->global);
    for (size_t i = 0; i < c->app_count; i++) {
        conf_object_done(CONF_SECTION_APP, &c->apps[i]);
        free(c->apps[i].place.lines);
        free(c->apps[i].name);
    }
    for (size_t i = 0; i < c->reserve_count; i++) {
        conf_object_done(CONF_SECTION_RESERVE, &c->reserves[i]);
        free(c->reserves[i].place.lines);
        free(c->reserves[i].route);
    }
    for (size_t i = 0; i < c->files.count; i++)
        free(c->files.items[i]);
    free(c->files.items);
    free(c->apps);
    free(c->reserves);
    conf_index_free(c->names);
    free(c);
}

const struct conf_app *conf_app_find(const struct conf *c, const char *name)
{
    uint32_t i = conf_index_find(c->names, name);
    return i < c->app_count ? &c->apps[i] : NULL;
}

static unsigned line_of(enum conf_section section, const struct conf_place *p, const char *key)
{
    const struct conf_schema *s = conf_schema(section);
    const struct conf_key *k = conf_key_find(s, key);
    uint64_t bit = k ? (uint64_t)1 << (k - s->keys) : 0;
    if (!(p->given & bit) || !p->lines)
        return p->line;
    return p->lines[__builtin_popcountll(p->given & (bit - 1))];
}

unsigned conf_app_line(const struct conf_app *a, const char *key)
{
    return line_of(CONF_SECTION_APP, &a->place, key);
}

unsigned conf_reserve_line(const struct conf_reserve *r, const char *key)
{
    return line_of(CONF_SECTION_RESERVE, &r->place, key);
}

bool conf_app_is_for_peers(const struct conf_app *a)
{
    struct route routes[2];
    for (size_t i = 0; i < a->routes.count; i++)
        if (conf_route(a->routes.items[i], routes) != 1 || routes[0].scheme != SCHEME_PEER)
            return false;
    return a->routes.count > 0;
}
