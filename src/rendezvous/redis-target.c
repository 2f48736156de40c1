/* Reads the address of a Redis: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]` or
 * `unix://[[USER]:PASSWORD@]/PATH[?db=DB]`. Text comes in, a struct with copies goes out. Names are
 * looked up by redis_target_resolve(), once, for later there is no resolver in the sandbox. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#include "rendezvous/redis-link.h"

#define PORT_DEFAULT 6379
#define DB_MAX       1000000

/* Everything up to the character, which is passed over; false when it is not there. */
static bool cut(struct str *s, char at, struct str *ret_before)
{
    const char *found = s->n ? memchr(s->p, at, s->n) : NULL;
    if (!found)
        return false;
    *ret_before = (struct str){s->p, (size_t)(found - s->p)};
    *s = str_skip(*s, ret_before->n + 1);
    return true;
}

static int hex(char c)
{
    c = ascii_lower(c);
    return ascii_is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Resolves %40 and its like; no NUL may come out. */
static int copy_decoded(struct str s, char *buf, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < s.n; i++) {
        int c = (uint8_t)s.p[i];
        if (c == '%') {
            int high = i + 2 < s.n ? hex(s.p[i + 1]) : -1, low = high < 0 ? -1 : hex(s.p[i + 2]);
            c = low < 0 ? 0 : high << 4 | low;
            i += 2;
        }
        if (c == 0 || used + 1 >= size)
            return -EINVAL;
        buf[used++] = (char)c;
    }
    buf[used] = '\0';
    return 0;
}

static int copy(struct str s, char *buf, size_t size)
{
    if (s.n == 0 || s.n >= size || memchr(s.p, '\0', s.n))
        return -EINVAL;
    memcpy(buf, s.p, s.n);
    buf[s.n] = '\0';
    return 0;
}

static int number(struct str s, unsigned max, unsigned *ret)
{
    unsigned v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (!ascii_is_digit(s.p[i]) || v > max)
            return -EINVAL;
        v = v * 10 + (unsigned)(s.p[i] - '0');
    }
    if (s.n == 0 || v > max)
        return -EINVAL;
    *ret = v;
    return 0;
}

/* USER:PASSWORD, each of which may be empty. */
static int login_parse(struct redis_target *t, struct str login)
{
    struct str user;
    if (!cut(&login, ':', &user))
        return -EINVAL;
    int r = copy_decoded(user, t->user, sizeof t->user);
    return r < 0 ? r : copy_decoded(login, t->password, sizeof t->password);
}

static int tcp_parse(struct redis_target *t, struct str s)
{
    struct str place = s, host, number_of_port = {NULL, 0};
    unsigned port = PORT_DEFAULT;
    if (cut(&s, '/', &place) && number(s, DB_MAX, &t->db) < 0)
        return -EINVAL;
    host = place;
    if (str_starts(place, STR("["))) {
        place = str_skip(place, 1);
        if (!cut(&place, ']', &host) || (place.n > 0 && place.p[0] != ':'))
            return -EINVAL;
        number_of_port = str_skip(place, 1);
    } else if (cut(&place, ':', &host)) {
        number_of_port = place;
    }
    if (number_of_port.p && number_of_port.n > 0 && number(number_of_port, 65535, &port) < 0)
        return -EINVAL;
    t->port = (uint16_t)port;
    return port == 0 ? -EINVAL : copy(host, t->host, sizeof t->host);
}

static int unix_parse(struct redis_target *t, struct str s)
{
    struct str path = s;
    if (cut(&s, '?', &path) &&
        (!str_starts(s, STR("db=")) || number(str_skip(s, 3), DB_MAX, &t->db) < 0))
        return -EINVAL;
    return str_starts(path, STR("/")) ? copy(path, t->host, sizeof t->host) : -EINVAL;
}

int redis_target_parse(const char *text, struct redis_target *ret_target)
{
    struct redis_target t = {.port = 0};
    struct str s = str_of(text), login, before;
    bool is_unix = str_starts(s, STR("unix://"));
    if (!is_unix && !str_starts(s, STR("redis://")))
        return -EINVAL;
    s = str_skip(s, strlen(is_unix ? "unix://" : "redis://"));
    struct str rest = s;
    /* An @ of the path is none. */
    if (cut(&rest, '@', &login) && !memchr(login.p, '/', login.n)) {
        s = rest;
        if (login_parse(&t, login) < 0)
            return -EINVAL;
    }
    before = s;
    int r = is_unix ? unix_parse(&t, before) : tcp_parse(&t, before);
    if (r == 0)
        *ret_target = t;
    return r;
}

int redis_target_resolve(struct redis_target *t)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
    if (t->port == 0)
        return 0;
    if (getaddrinfo(t->host, NULL, &hints, &list) != 0)
        return -EHOSTUNREACH;
    int r = getnameinfo(list->ai_addr, list->ai_addrlen, t->host, sizeof t->host, NULL, 0,
                        NI_NUMERICHOST);
    freeaddrinfo(list);
    return r == 0 ? 0 : -EHOSTUNREACH;
}
