/* Finds the router and asks it. XML that anybody on the LAN may have sent is parsed here, so before
 * that the process loses its user's files, programs, capabilities, and all but a bit of memory and
 * time. */
#include "request.h"

#include <arpa/inet.h>
#include <grp.h>
#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sandbox/peer.h"

#define DISCOVER_MS 1000
#define LIFE_S      10
#define MEMORY      (256u << 20)
#define PORT_LEAST  1024
/* Another host may have the port already: what else is tried. */
#define PORTS_OTHER 2
#define PORTS_APART 7919
/* WANIPConnection 2.4.16. */
#define ERROR_CONFLICT       718
#define ERROR_ONLY_PERMANENT 725
#define LIFETIME_MOST        604800
#define NOBODY               65534

static bool limit(int what, rlim_t most)
{
    struct rlimit r = {most, most};
    return setrlimit(what, &r) == 0;
}

/* The sanitizers' own memory is beyond any limit. */
static bool limit_memory(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return true;
#else
    return limit(RLIMIT_AS, MEMORY);
#endif
}

/* As root; a service manager that has taken the right to it has taken the capabilities, too. */
static void leave_root(void)
{
    bool left = geteuid() == 0 && setgroups(0, NULL) == 0 &&
                setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0;
    (void)left;
}

/* A kernel without Landlock, and the sanitizers, leave the limits. */
static bool give_up_rights(void)
{
    leave_root();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || !limit(RLIMIT_FSIZE, 0) ||
        !limit(RLIMIT_CORE, 0) || !limit(RLIMIT_NPROC, 0) || !limit_memory())
        return false;
    (void)!sandbox_peer_files(NULL, 0);
    (void)!sandbox_peer_calls();
    return true;
}

static bool say(char *answer, const char *what, const char *word)
{
    (void)snprintf(answer, ANSWER_MAX, "%s%s", what, word);
    return strcmp(what, "failed ") != 0;
}

struct router {
    struct UPNPUrls urls;
    struct IGDdatas data;
    char own[64]; /* our address there */
};

static bool router_find(struct router *r)
{
    int error = 0;
    struct UPNPDev *devices =
        upnpDiscover(DISCOVER_MS, NULL, NULL, UPNP_LOCAL_PORT_ANY, 0, 2, &error);
    if (!devices)
        return false;
    int found = UPNP_GetValidIGD(devices, &r->urls, &r->data, r->own, sizeof r->own);
    freeUPNPDevlist(devices);
    /* 2: a router that is not connected, or whose address is private: who asks finds out. */
    if (found == 1 || found == 2)
        return true;
    if (found > 0)
        FreeUPNPUrls(&r->urls);
    return false;
}

static const char *protocol(const struct request *q)
{
    return q->tcp ? "TCP" : "UDP";
}

static int port_add(const struct router *r, const struct request *q, const char *external)
{
    const char *control = r->urls.controlURL, *type = r->data.first.servicetype;
    char port[8], lifetime[16];
    (void)snprintf(port, sizeof port, "%u", q->port);
    (void)snprintf(lifetime, sizeof lifetime, "%u", q->lifetime);
    int error = UPNP_AddPortMapping(control, type, external, port, r->own, "berth", protocol(q),
                                    NULL, lifetime);
    return error == ERROR_ONLY_PERMANENT
               ? UPNP_AddPortMapping(control, type, external, port, r->own, "berth", protocol(q),
                                     NULL, "0")
               : error;
}

static bool port_remove(const struct router *r, const struct request *q, const char *external)
{
    return UPNP_DeletePortMapping(r->urls.controlURL, r->data.first.servicetype, external,
                                  protocol(q), NULL) == UPNPCOMMAND_SUCCESS;
}

/* The same ports in the same order each time, so that asking again renews. */
static bool add(const struct router *r, const struct request *q, char *answer)
{
    char address[64] = "", external[8], both[80];
    struct in_addr ip;
    unsigned port = q->port;
    int error = ERROR_CONFLICT;
    for (unsigned i = 0; error == ERROR_CONFLICT && i <= PORTS_OTHER; i++) {
        port = q->port + i * PORTS_APART;
        port = port > UINT16_MAX ? port - UINT16_MAX + PORT_LEAST : port;
        (void)snprintf(external, sizeof external, "%u", port);
        error = port_add(r, q, external);
    }
    if (error != UPNPCOMMAND_SUCCESS)
        return say(answer, "failed ", "Refused");
    if (UPNP_GetExternalIPAddress(r->urls.controlURL, r->data.first.servicetype, address) !=
            UPNPCOMMAND_SUCCESS ||
        inet_pton(AF_INET, address, &ip) != 1) {
        /* Nobody could use it, and nobody would give it back. */
        (void)port_remove(r, q, external);
        return say(answer, "failed ", "NoAddress");
    }
    (void)snprintf(both, sizeof both, "%s:%u", inet_ntop(AF_INET, &ip, address, sizeof address),
                   port);
    return say(answer, "mapped ", both);
}

static bool take_away(const struct router *r, const struct request *q, char *answer)
{
    char port[8];
    (void)snprintf(port, sizeof port, "%u", q->port);
    return port_remove(r, q, port) ? say(answer, "removed", "") : say(answer, "failed ", "Refused");
}

bool request_run(const struct request *q, char ret_answer[ANSWER_MAX])
{
    struct router r = {.own = ""};
    (void)alarm(LIFE_S);
    if (!give_up_rights())
        return say(ret_answer, "failed ", "Rights");
    if (!router_find(&r))
        return say(ret_answer, "failed ", "NoRouter");
    bool good = q->add ? add(&r, q, ret_answer) : take_away(&r, q, ret_answer);
    FreeUPNPUrls(&r.urls);
    return good;
}

static bool number_read(const char *text, long most, long *ret)
{
    char *end;
    *ret = strtol(text, &end, 10);
    return end != text && !*end && *ret >= 1 && *ret <= most;
}

bool request_read(size_t count, char *const *words, struct request *ret_request)
{
    long port, lifetime = 0;
    bool add = count == 4 && strcmp(words[0], "add") == 0;
    if (!add && (count != 3 || strcmp(words[0], "remove") != 0))
        return false;
    bool tcp = strcmp(words[1], "tcp") == 0;
    if ((!tcp && strcmp(words[1], "udp") != 0) || !number_read(words[2], UINT16_MAX, &port) ||
        (add && !number_read(words[3], LIFETIME_MOST, &lifetime)))
        return false;
    *ret_request = (struct request){add, tcp, (uint16_t)port, (uint32_t)lifetime};
    return true;
}
