/* The kernel's rules about port numbers, from /proc/sys, and what we ourselves may do. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "why/parts.h"

#define CAP_NET_BIND_SERVICE_BIT 10

bool rules_list_has(const char *list, uint16_t port)
{
    while (ascii_is_digit(*list)) {
        char *end;
        unsigned long lo = strtoul(list, &end, 10), hi = lo;
        if (*end == '-')
            hi = strtoul(end + 1, &end, 10);
        if (lo <= port && port <= hi)
            return true;
        list = *end == ',' ? end + 1 : end;
    }
    return false;
}

static bool sysctl_read(const char *name, char *buf, size_t size)
{
    char path[128];
    (void)snprintf(path, sizeof path, "/proc/sys/net/ipv4/%s", name);
    return procs_read(path, buf, size) > 0;
}

static bool have_capability(void)
{
    char status[4096];
    uint64_t effective = 0;
    if (procs_read("/proc/self/status", status, sizeof status) < 0)
        return false;
    const char *line = strstr(status, "\nCapEff:");
    return line && sscanf(line, "\nCapEff: %" SCNx64, &effective) == 1 &&
           (effective >> CAP_NET_BIND_SERVICE_BIT & 1);
}

void rules_collect(struct why_report *r)
{
    struct why_rules *rules = &r->rules;
    char text[4096];
    *rules = (struct why_rules){.unprivileged_start = -1, .may_bind_low = have_capability()};
    if (sysctl_read("ip_unprivileged_port_start", text, sizeof text))
        (void)sscanf(text, "%d", &rules->unprivileged_start);
    if (sysctl_read("ip_local_port_range", text, sizeof text))
        (void)sscanf(text, "%d %d", &rules->ephemeral_lo, &rules->ephemeral_hi);
    if (sysctl_read("ip_local_reserved_ports", text, sizeof text))
        rules->reserved = rules_list_has(text, r->target.port);
}
