/* Values that are names, paths or addresses. Texts are copied to the heap and belong to the field.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/target.h"
#include "conf/value.h"

static int text_set(char **field, const char *word)
{
    char *copy = strdup(word);
    if (!copy)
        return -ENOMEM;
    free(*field);
    *field = copy;
    return 0;
}

static bool text_equal(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    return x && y ? strcmp(x, y) == 0 : x == y;
}

static void text_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    const char *text = *(char *const *)field;
    (void)i;
    if (text)
        conf_word_format(text, f);
    else if (k->zero)
        (void)fputs(k->zero, f);
}

static void text_done(void *field)
{
    free(*(char **)field);
    *(char **)field = NULL;
}

/* What useradd(8) and systemd let through: no colon, no slash, no blank, and no leading hyphen. A
 * number is a user id. */
static bool name_is_good(const char *name)
{
    if (*name == '-' || strlen(name) > 256)
        return false;
    for (const char *c = name; *c; c++)
        if ((uint8_t)*c <= ' ' || *c == 0x7f || *c == ':' || *c == '/' || *c == ',')
            return false;
    return true;
}

static int name_parse(const struct conf_value *v, void *field)
{
    const char *word = conf_single(v);
    if (!word)
        return -EINVAL;
    if (!name_is_good(word))
        return conf_refuse(v, "\"%.60s\" cannot be a name: %s", word,
                           conf_ops(v->key->type)->expects);
    return text_set(field, word);
}

static int path_parse(const struct conf_value *v, void *field)
{
    const char *word = conf_single(v);
    if (!word)
        return -EINVAL;
    if (conf_is_zero(v->key, word))
        return 0;
    if (word[0] != '/')
        return conf_refuse(
            v, "\"%.60s\" is not a whole path: write it from the root, as /srv/%.60s", word, word);
    if (strlen(word) >= 4096)
        return conf_refuse(v, "the path is too long: at most 4095 bytes");
    return text_set(field, word);
}

static int addr_value_parse(const struct conf_value *v, void *field)
{
    const char *word = conf_single(v);
    if (!word)
        return -EINVAL;
    if (conf_is_zero(v->key, word))
        return 0;
    if (addr_parse(word, field) < 0)
        return conf_refuse(v, "\"%.60s\" is no address: %s", word, conf_ops(v->key->type)->expects);
    return 0;
}

static void addr_value_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    const struct addr *a = field;
    char text[ADDR_TEXT_MAX];
    (void)i;
    if (a->sa.sa_family == AF_UNSPEC)
        (void)fputs(k->zero ? k->zero : "", f);
    else
        conf_word_format(addr_format(a, text), f);
}

static bool addr_value_equal(const void *a, const void *b)
{
    const struct addr *x = a, *y = b;
    return x->sa.sa_family == y->sa.sa_family && (x->sa.sa_family == AF_UNSPEC || addr_equal(x, y));
}

static int target_parse(const struct conf_value *v, void *field)
{
    const char *word = conf_single(v);
    struct target_place place;
    if (!word)
        return -EINVAL;
    if (target_place_parse(word, &place) < 0)
        return conf_refuse(v, "\"%.60s\" is no address to connect to: %s", word,
                           conf_ops(v->key->type)->expects);
    return text_set(field, word);
}

static int health_parse(const struct conf_value *v, void *field)
{
    const char *word = conf_single(v), *at = word;
    struct conf_health *h = field;
    uint64_t port;
    if (!word)
        return -EINVAL;
    if (conf_is_zero(v->key, word))
        return 0;
    if (word[0] == '/') {
        for (const char *c = word; *c; c++)
            if ((uint8_t)*c <= ' ' || *c == 0x7f)
                return conf_refuse(v, "a path of a request has no blanks: write %%20");
        return text_set(&h->path, word);
    }
    if (conf_number(&at, 65535, &port) < 0 || *at || port == 0)
        return conf_refuse(v, "\"%.60s\" is not understood: %s, or off", word,
                           conf_ops(v->key->type)->expects);
    h->port = (uint16_t)port;
    return 0;
}

static void health_format(const struct conf_key *k, const void *field, size_t i, FILE *f)
{
    const struct conf_health *h = field;
    (void)i;
    if (h->path)
        conf_word_format(h->path, f);
    else if (h->port)
        (void)fprintf(f, "%u", h->port);
    else
        (void)fputs(k->zero, f);
}

static bool health_equal(const void *a, const void *b)
{
    const struct conf_health *x = a, *y = b;
    return x->port == y->port && text_equal(&x->path, &y->path);
}

static void health_done(void *field)
{
    text_done(&((struct conf_health *)field)->path);
}

const struct conf_ops conf_ops_name = {"write a name as getent(1) shows it, or a number",
                                       name_parse, text_format, text_equal, text_done};
const struct conf_ops conf_ops_path = {"write a path from the root", path_parse, text_format,
                                       text_equal, text_done};
const struct conf_ops conf_ops_addr = {"write 127.0.0.1:9180, [::1]:9180 or unix:/path",
                                       addr_value_parse, addr_value_format, addr_value_equal};
const struct conf_ops conf_ops_target = {
    "write 127.0.0.1:3000, [::1]:3000, db.example:5432 or unix:/path", target_parse, text_format,
    text_equal, text_done};
const struct conf_ops conf_ops_health = {"write a path as /healthz, or a port", health_parse,
                                         health_format, health_equal, health_done};
