/* berth-upnp: asks a router of the LAN for a port by UPnP-IGD. A port comes in on the command line,
 * one line goes out: `mapped ADDRESS:PORT` or `failed WORD`. It is a program of its own because it
 * parses XML that anybody on the LAN may have sent: it gains no privileges, starts nothing, writes
 * no file, and ends after ten seconds whatever happens. */
#include <arpa/inet.h>
#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define DISCOVER_MS 1000
#define LIFE_S      10
#define MEMORY      (256u << 20)

static bool limit(int what, rlim_t most)
{
    struct rlimit r = {most, most};
    return setrlimit(what, &r) == 0;
}

static bool give_up_rights(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && limit(RLIMIT_FSIZE, 0) &&
           limit(RLIMIT_CORE, 0) && limit(RLIMIT_NPROC, 0) && limit(RLIMIT_AS, MEMORY);
}

static int fail(const char *word)
{
    (void)printf("failed %s\n", word);
    return 1;
}

struct router {
    struct UPNPUrls urls;
    struct IGDdatas data;
    char own[64]; /* our address there */
};

static const char *router_find(struct router *r)
{
    int error = 0;
    struct UPNPDev *devices =
        upnpDiscover(DISCOVER_MS, NULL, NULL, UPNP_LOCAL_PORT_ANY, 0, 2, &error);
    if (!devices)
        return "NoRouter";
    int found = UPNP_GetValidIGD(devices, &r->urls, &r->data, r->own, sizeof r->own);
    freeUPNPDevlist(devices);
    /* 2: a router that is not connected, or whose address is private: PORTMAP_USELESS finds out. */
    if (found == 1 || found == 2)
        return NULL;
    if (found > 0)
        FreeUPNPUrls(&r->urls);
    return "NoRouter";
}

static int change(struct router *r, bool add, const char *port, const char *protocol,
                  const char *lifetime)
{
    const char *control = r->urls.controlURL, *type = r->data.first.servicetype;
    if (!add)
        return UPNP_DeletePortMapping(control, type, port, protocol, NULL);
    int error =
        UPNP_AddPortMapping(control, type, port, port, r->own, "berth", protocol, NULL, lifetime);
    /* 725 OnlyPermanentLeasesSupported (WANIPConnection 2.4.16). */
    return error == 725 ? UPNP_AddPortMapping(control, type, port, port, r->own, "berth", protocol,
                                              NULL, "0")
                        : error;
}

static int run(struct router *r, bool add, const char *port, const char *protocol,
               const char *lifetime)
{
    char external[64] = "";
    struct in_addr ip;
    if (change(r, add, port, protocol, lifetime) != UPNPCOMMAND_SUCCESS)
        return fail("Refused");
    if (!add)
        return puts("removed") < 0;
    if (UPNP_GetExternalIPAddress(r->urls.controlURL, r->data.first.servicetype, external) !=
            UPNPCOMMAND_SUCCESS ||
        inet_pton(AF_INET, external, &ip) != 1)
        return fail("NoAddress");
    (void)printf("mapped %s:%s\n", external, port);
    return 0;
}

static bool is_number(const char *text, long most)
{
    char *end;
    long v = strtol(text, &end, 10);
    return end != text && !*end && v >= 1 && v <= most;
}

int main(int argc, char **argv)
{
    struct router r = {.own = ""};
    bool add = argc == 5 && strcmp(argv[1], "add") == 0;
    bool del = argc == 4 && strcmp(argv[1], "remove") == 0;
    const char *protocol = argc > 2 && strcmp(argv[2], "tcp") == 0   ? "TCP"
                           : argc > 2 && strcmp(argv[2], "udp") == 0 ? "UDP"
                                                                     : NULL;
    if ((!add && !del) || !protocol || !is_number(argv[3], 65535) ||
        (add && !is_number(argv[4], 604800))) {
        (void)fprintf(stderr, "usage: berth-upnp add udp|tcp PORT SECONDS | remove udp|tcp PORT\n");
        return 2;
    }
    (void)alarm(LIFE_S);
    if (!give_up_rights())
        return fail("Rights");
    const char *why = router_find(&r);
    if (why)
        return fail(why);
    int status = run(&r, add, argv[3], protocol, add ? argv[4] : NULL);
    FreeUPNPUrls(&r.urls);
    return status;
}
