/* Reads the name of a rendezvous server. Text in, its parts out. */
#include "rendezvous/server-name.h"

#include <stdlib.h>

#include "base/str.h"

/* Where the host ends, and the port after it or NULL. */
static int split(const char *text, struct str *ret_host, const char **ret_port)
{
    const char *end;
    if (text[0] == '[') {
        end = strchr(text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return -EINVAL;
        *ret_host = (struct str){text + 1, (size_t)(end - text) - 1};
        *ret_port = end[1] ? end + 2 : NULL;
        return 0;
    }
    end = strrchr(text, ':');
    *ret_host = (struct str){text, end ? (size_t)(end - text) : strlen(text)};
    *ret_port = end ? end + 1 : NULL;
    return 0;
}

static bool port_valid(const char *port)
{
    size_t n = strlen(port);
    for (size_t i = 0; i < n; i++)
        if (!ascii_is_digit(port[i]))
            return false;
    return n > 0 && n <= 5 && atoi(port) > 0 && atoi(port) <= 65535;
}

int server_name_parse(const char *text, struct server_name *ret_name)
{
    struct server_name s = {.port = SERVER_PORT};
    struct str host;
    const char *port;
    if (split(text, &host, &port) < 0 || host.n == 0 || host.n >= sizeof s.host)
        return -EINVAL;
    if (port && !port_valid(port))
        return -EINVAL;
    memcpy(s.host, host.p, host.n);
    if (port)
        memcpy(s.port, port, strlen(port) + 1);
    s.port_given = port != NULL;
    *ret_name = s;
    return 0;
}
