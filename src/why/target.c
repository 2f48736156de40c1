/* Reads what a user may ask about: a port, an address, a URL or route, a process. Pure: names are
 * never resolved, only their ports count. */
#include <stdio.h>
#include <stdlib.h>

#include "why/why.h"

static const struct {
    const char *scheme;
    uint16_t port;
} default_ports[] = {
    {"http", 80},       {"ws", 80},           {"https", 443},  {"wss", 443},
    {"tls", 443},       {"ssh", 22},          {"socks", 1080}, {"rdp", 3389},
    {"postgres", 5432}, {"postgresql", 5432}, {"redis", 6379}, {"mqtt", 1883},
    {"xmpp", 5222},     {"ftp", 21},          {"smtp", 25},    {"mysql", 3306},
};

static int fail(char reason[WHY_REASON_MAX], const char *sentence, const char *text)
{
    (void)snprintf(reason, WHY_REASON_MAX, "%s: %.60s", sentence, text);
    return -EINVAL;
}

/* A decimal number and nothing else. */
static int number_parse(const char *text, unsigned long max, unsigned long *ret_value)
{
    if (!ascii_is_digit(text[0]) || strspn(text, "0123456789") != strlen(text))
        return -EINVAL;
    errno = 0;
    unsigned long v = strtoul(text, NULL, 10);
    if (errno != 0 || v > max)
        return -EINVAL;
    *ret_value = v;
    return 0;
}

static struct why_target target_of_addr(const struct addr *a)
{
    return (struct why_target){.kind = WHY_ADDR, .port = addr_port(a), .addr = *a};
}

static struct why_target target_of_port(unsigned long port)
{
    return (struct why_target){.kind = WHY_PORT, .port = (uint16_t)port};
}

static int pid_parse(const char *text, struct why_target *ret_target, char reason[WHY_REASON_MAX])
{
    unsigned long v;
    if (number_parse(text, INT32_MAX, &v) < 0 || v == 0)
        return fail(reason, "this is not the number of a process", text);
    *ret_target = (struct why_target){.kind = WHY_PID, .pid = (pid_t)v};
    return 0;
}

static unsigned long scheme_port(struct str scheme)
{
    for (size_t i = 0; i < sizeof default_ports / sizeof *default_ports; i++)
        if (str_eq_nocase(scheme, str_of(default_ports[i].scheme)))
            return default_ports[i].port;
    return 0;
}

/* host, host:port, [v6] or [v6]:port, with the port of the scheme (0: none) as default. */
static int host_parse(const char *host, unsigned long port, struct why_target *ret_target,
                      char reason[WHY_REASON_MAX])
{
    const char *bracket = strrchr(host, ']');
    const char *colon = strrchr(bracket ? bracket : host, ':');
    if (colon && !bracket && strchr(host, ':') != colon)
        return fail(reason, "an IPv6 address is written [ADDRESS]:PORT", host);
    if (colon && (number_parse(colon + 1, UINT16_MAX, &port) < 0 || port == 0))
        return fail(reason, "a port is a number from 1 to 65535", host);
    if (port == 0)
        return fail(reason, "which port? write ADDRESS:PORT or a URL", host);
    int n = colon ? (int)(colon - host) : (int)strlen(host);
    char text[ADDR_TEXT_MAX];
    struct addr a;
    (void)snprintf(text, sizeof text, "%.*s:%lu", n > 100 ? 100 : n, host, port);
    if (n > 0 && strncmp(text, "unix:", 5) != 0 && text[0] != '*' && addr_parse(text, &a) == 0)
        *ret_target = target_of_addr(&a);
    else
        *ret_target = target_of_port(port);
    return 0;
}

static int url_parse(const char *text, const char *rest, struct why_target *ret_target,
                     char reason[WHY_REASON_MAX])
{
    struct str scheme = {text, (size_t)(rest - text)};
    char host[300];
    const char *from = rest + 3;
    size_t n = strcspn(from, "/?#");
    if (n >= sizeof host)
        return fail(reason, "the host is too long", text);
    memcpy(host, from, n);
    host[n] = 0;
    const char *at = strrchr(host, '@');
    return host_parse(at ? at + 1 : host, scheme_port(scheme), ret_target, reason);
}

int why_target_parse(const char *text, struct why_target *ret_target, char reason[WHY_REASON_MAX])
{
    unsigned long v;
    if (number_parse(text, UINT16_MAX, &v) == 0) {
        if (v == 0)
            return fail(reason, "port 0 means any free port; nobody can hold it", text);
        *ret_target = target_of_port(v);
        return 0;
    }
    if (number_parse(text, INT32_MAX, &v) == 0)
        return pid_parse(text, ret_target, reason);
    if (strncmp(text, "pid:", 4) == 0)
        return pid_parse(text + 4, ret_target, reason);
    if (strncmp(text, "unix:", 5) == 0)
        return fail(reason, "a Unix socket has no port", text);
    const char *rest = strstr(text, "://");
    if (rest)
        return url_parse(text, rest, ret_target, reason);
    return host_parse(text, 0, ret_target, reason);
}
