/* The text of an address to connect to comes in, its parts go out. Nothing is looked up. */
#include "base/target.h"

#include <stdio.h>
#include <stdlib.h>

static bool is_port(const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);
    return ascii_is_digit(text[0]) && strlen(text) <= 5 && !*end && port > 0 && port <= 65535;
}

static bool is_host(const char *text, size_t n)
{
    if (n == 0 || n >= TARGET_HOST_MAX || text[0] == '-' || text[0] == '.')
        return false;
    bool letters = false;
    for (size_t i = 0; i < n; i++) {
        letters |= ascii_is_alpha(text[i]);
        if (!ascii_is_alpha(text[i]) && !ascii_is_digit(text[i]) && !strchr("-._", text[i]))
            return false;
    }
    return letters;
}

int target_place_parse(const char *text, struct target_place *ret_place)
{
    struct target_place p = {0};
    const char *colon = strrchr(text, ':');
    if (addr_parse(text, &p.addr) == 0) {
        bool is_path = p.addr.sa.sa_family == AF_UNIX;
        if (is_path && p.addr.un.sun_path[0] != '/')
            return -EINVAL;
        if (!is_path && (addr_port(&p.addr) == 0 || addr_is_wildcard(&p.addr)))
            return -EINVAL;
        *ret_place = p;
        return 0;
    }
    if (!colon || !is_port(colon + 1) || !is_host(text, (size_t)(colon - text)))
        return -EINVAL;
    p.is_name = true;
    (void)snprintf(p.host, sizeof p.host, "%.*s", (int)(colon - text), text);
    (void)snprintf(p.port, sizeof p.port, "%s", colon + 1);
    *ret_place = p;
    return 0;
}
