/* The state file: read once, kept in memory, written anew after each change. */
#include "peerd/state.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX (1 << 20)

static bool text_copy(char *to, size_t size, const char *from)
{
    size_t n = from ? strlen(from) : size;
    if (n >= size)
        return false;
    memcpy(to, from, n + 1);
    return true;
}

struct publication *state_publication(struct state *s, struct str service)
{
    for (size_t i = 0; i < s->publication_count; i++)
        if (str_eq(str_of(s->publications[i].service), service))
            return &s->publications[i];
    return NULL;
}

int state_publish(struct state *s, const struct publication *p)
{
    struct publication *old = state_publication(s, str_of(p->service));
    if (!old && s->publication_count == STATE_PUBLICATIONS_MAX)
        return -ENOSPC;
    if (!old)
        old = &s->publications[s->publication_count++];
    *old = *p;
    return 0;
}

static void allowed_remove(struct state *s, size_t i)
{
    s->allowed[i] = s->allowed[--s->allowed_count];
}

void state_unpublish(struct state *s, struct publication *p)
{
    for (size_t i = s->allowed_count; i-- > 0;)
        if (strcmp(s->allowed[i].service, p->service) == 0)
            allowed_remove(s, i);
    *p = s->publications[--s->publication_count];
}

static bool is_same(const struct allowed *a, const struct key *key, const char *service)
{
    return key_equal(&a->key, key) && strcmp(a->service, service) == 0;
}

int state_allow(struct state *s, const struct allowed *a)
{
    for (size_t i = 0; i < s->allowed_count; i++)
        if (is_same(&s->allowed[i], &a->key, a->service))
            return 0;
    if (s->allowed_count == STATE_ALLOWED_MAX)
        return -ENOSPC;
    s->allowed[s->allowed_count++] = *a;
    return 0;
}

bool state_deny(struct state *s, const struct key *key, const char *service)
{
    bool all = strcmp(service, STATE_ALL) == 0, was = false;
    for (size_t i = s->allowed_count; i-- > 0;) {
        if (!key_equal(&s->allowed[i].key, key) ||
            !(all || strcmp(s->allowed[i].service, service) == 0))
            continue;
        allowed_remove(s, i);
        was = true;
    }
    return was;
}

bool state_may(struct state *s, const struct key *key, struct str service)
{
    const struct publication *p = state_publication(s, service);
    if (service.n > 0 && !p)
        return false;
    if (p ? p->anyone : state_anyone(s))
        return true;
    for (size_t i = 0; i < s->allowed_count; i++) {
        const struct allowed *a = &s->allowed[i];
        if (key_equal(&a->key, key) && (service.n == 0 || strcmp(a->service, STATE_ALL) == 0 ||
                                        str_eq(str_of(a->service), service)))
            return true;
    }
    return false;
}

bool state_lists(const struct state *s, const struct key *key)
{
    for (size_t i = 0; i < s->allowed_count; i++)
        if (key_equal(&s->allowed[i].key, key))
            return true;
    return false;
}

bool state_anyone(const struct state *s)
{
    for (size_t i = 0; i < s->publication_count; i++)
        if (s->publications[i].anyone)
            return true;
    return false;
}

int state_server_add(struct state *s, const char *server)
{
    for (size_t i = 0; i < s->server_count; i++)
        if (strcmp(s->servers[i], server) == 0)
            return 0;
    if (s->server_count == STATE_SERVERS_MAX)
        return -ENOSPC;
    if (!text_copy(s->servers[s->server_count], STATE_SERVER_TEXT, server))
        return -ENAMETOOLONG;
    s->server_count++;
    return 1;
}

char *state_format(const struct state *s)
{
    json_t *servers = json_array(), *services = json_array(), *allowed = json_array();
    for (size_t i = 0; i < s->server_count; i++)
        (void)json_array_append_new(servers, json_string(s->servers[i]));
    for (size_t i = 0; i < s->publication_count; i++) {
        const struct publication *p = &s->publications[i];
        (void)json_array_append_new(
            services, json_pack("{s:s, s:s, s:i, s:b, s:b}", "service", p->service, "to", p->to,
                                "port", (int)p->port, "proxy", p->proxy, "anyone", p->anyone));
    }
    for (size_t i = 0; i < s->allowed_count; i++) {
        const struct allowed *a = &s->allowed[i];
        char key[KEY_TEXT_MAX];
        (void)json_array_append_new(allowed,
                                    json_pack("{s:s, s:s, s:s}", "key", key_format(&a->key, key),
                                              "name", a->name, "service", a->service));
    }
    json_t *j = json_pack("{s:i, s:i, s:o, s:o, s:o}", "version", 1, "port", (int)s->port,
                          "servers", servers, "services", services, "allowed", allowed);
    char *text = json_dumps(j, JSON_INDENT(2));
    json_decref(j);
    return text;
}

static int publication_read(struct state *s, const json_t *j)
{
    json_int_t port = json_integer_value(json_object_get(j, "port"));
    struct publication p = {.port = (uint16_t)port,
                            .proxy = json_is_true(json_object_get(j, "proxy")),
                            .anyone = json_is_true(json_object_get(j, "anyone"))};
    if (!text_copy(p.service, sizeof p.service, json_string_value(json_object_get(j, "service"))) ||
        !text_copy(p.to, sizeof p.to, json_string_value(json_object_get(j, "to"))) ||
        !record_name_valid(str_of(p.service)) || port < 0 || port > UINT16_MAX)
        return -EBADMSG;
    return state_publish(s, &p);
}

static int allowed_read(struct state *s, const json_t *j)
{
    struct allowed a = {.name = ""};
    const char *key = json_string_value(json_object_get(j, "key"));
    if (!key || key_parse(str_of(key), &a.key) < 0 ||
        !text_copy(a.name, sizeof a.name, json_string_value(json_object_get(j, "name"))) ||
        !text_copy(a.service, sizeof a.service, json_string_value(json_object_get(j, "service"))))
        return -EBADMSG;
    return state_allow(s, &a);
}

static int lists_read(struct state *s, const json_t *j)
{
    size_t i;
    const json_t *item;
    int r = 0;
    json_array_foreach(json_object_get(j, "servers"), i, item) if (r >= 0) r =
        json_is_string(item) ? state_server_add(s, json_string_value(item)) : -EBADMSG;
    json_array_foreach(json_object_get(j, "services"), i, item) if (r >= 0) r =
        publication_read(s, item);
    json_array_foreach(json_object_get(j, "allowed"), i, item) if (r >= 0) r =
        allowed_read(s, item);
    return r < 0 ? r : 0;
}

int state_parse(struct state *s, const char *text)
{
    json_t *j = json_loads(text, 0, NULL);
    json_int_t port = json_integer_value(json_object_get(j, "port"));
    int r = -EBADMSG;
    if (json_integer_value(json_object_get(j, "version")) == 1 && port >= 0 && port <= UINT16_MAX) {
        s->port = (uint16_t)port;
        r = lists_read(s, j);
    }
    json_decref(j);
    return r;
}

static int text_read(const char *path, char **ret_text)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    char *text = malloc(FILE_MAX + 1);
    ssize_t n = text ? read(fd, text, FILE_MAX) : -1;
    if (n < 0) {
        free(text);
        return -EIO;
    }
    text[n] = 0;
    *ret_text = text;
    return 0;
}

int state_load(struct state *s, const char *path)
{
    char *text = NULL;
    *s = (struct state){.path = strdup(path)};
    if (!s->path)
        return -ENOMEM;
    int r = text_read(path, &text);
    if (r == -ENOENT)
        return 0;
    if (r == 0)
        r = state_parse(s, text);
    free(text);
    return r;
}

void state_done(struct state *s)
{
    free(s->path);
    s->path = NULL;
}

static int text_write(int fd, const char *text)
{
    for (size_t n = strlen(text); n > 0;) {
        ssize_t w = write(fd, text, n);
        if (w < 0)
            return -errno;
        text += w;
        n -= (size_t)w;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* Replaced by rename(), so that a kill leaves the old one or the new one. */
int state_save(const struct state *s)
{
    char made[4096];
    if ((size_t)snprintf(made, sizeof made, "%s.new", s->path) >= sizeof made)
        return -ENAMETOOLONG;
    int r = keys_folder_make(s->path);
    if (r < 0)
        return r;
    CLEANUP_FD int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    char *text = fd < 0 ? NULL : state_format(s);
    if (fd < 0 || !text)
        return fd < 0 ? -errno : -ENOMEM;
    r = text_write(fd, text);
    free(text);
    if (r == 0 && rename(made, s->path) < 0)
        r = -errno;
    return r;
}
