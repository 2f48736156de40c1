/* A queue that the program was started with: LISTEN_FDS and LISTEN_FDNAMES say where it is, its own
 * name proves what it is, and BERTH_* say for whom. The descriptor is moved, so that it is taken
 * once and does not pass to the program's children. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

#define LISTEN_FDS_START 3
#define LISTEN_FDS_MAX   1024

static long number_of(const char *variable)
{
    const char *text = getenv(variable);
    char *end;
    if (!text || !ascii_is_digit(text[0]))
        return -1;
    long v = strtol(text, &end, 10);
    return *end ? -1 : v;
}

static bool is_queue(int fd)
{
    struct sockaddr_un un;
    struct queue_name name;
    socklen_t len = sizeof un;
    return getsockname(fd, (struct sockaddr *)&un, &len) == 0 && len <= sizeof un &&
           queue_name_parse(&un, len, &name) == 0;
}

static int queue_find(void)
{
    long count = number_of("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    if (number_of("LISTEN_PID") != getpid() || count < 1 || count > LISTEN_FDS_MAX || !names)
        return -ENOENT;
    for (int i = 0; i < count; i++) {
        size_t n = strcspn(names, ":");
        if (str_eq((struct str){names, n}, STR("berth")) && is_queue(LISTEN_FDS_START + i))
            return LISTEN_FDS_START + i;
        names += n + (names[n] == ':');
    }
    return -ENOENT;
}

static int hex_digit(char c)
{
    c = ascii_lower(c);
    if (ascii_is_digit(c))
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool instance_read(uint8_t instance[APPMSG_INSTANCE])
{
    const char *hex = getenv("BERTH_INSTANCE");
    if (!hex || strlen(hex) != 2 * APPMSG_INSTANCE)
        return false;
    for (size_t i = 0; i < APPMSG_INSTANCE; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        instance[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* Without these the queue is as good, only that it cannot be claimed again. */
static int identity_read(struct identity *id)
{
    const char *name = getenv("BERTH_APP"), *command = getenv("BERTH_COMMAND");
    const char *routes = getenv("BERTH_ROUTES"), *listens = getenv("BERTH_LISTEN");
    const char *flags = getenv("BERTH_FLAGS");
    *id = (struct identity){0};
    if (!routes || !name || !instance_read(id->instance))
        return 0;
    (void)snprintf(id->name, sizeof id->name, "%s", name);
    (void)snprintf(id->command, sizeof id->command, "%s", command ? command : "");
    id->proxy = flags && strstr(flags, "proxy");
    id->routes = strdup(routes);
    id->listens = listens ? strdup(listens) : NULL;
    if (id->routes && (id->listens || !listens))
        return 0;
    identity_done(id);
    return -ENOMEM;
}

int inherit_queue(struct berth *b, int *ret_queue)
{
    int inherited = queue_find();
    if (inherited < 0)
        return inherited;
    CLEANUP_FD int queue = fcntl(inherited, F_DUPFD_CLOEXEC, LISTEN_FDS_START);
    if (queue < 0)
        return -errno;
    int r = identity_read(&b->identity);
    if (r < 0)
        return r;
    (void)close(inherited);
    *ret_queue = fd_take(&queue);
    return 0;
}
