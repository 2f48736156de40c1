#pragma once
/* How bytes get to the rendezvous servers and their relays, and back: where they are, over the
 * shared UDP socket while that works, else over TLS 1.3 on the same port number, and back to UDP
 * when it works again. The network for rendezvous/presence.h; on the loop, never blocking.
 *
 * Glue, in berth-peer:
 *   presence_host.send     -> link_send()
 *   presence_tick()        -> after each callback, and by a timer of berth-peer's
 *   link_host.message      -> presence_input()
 *   link_host.moved        -> presence_moved()
 *   a datagram from the UDP socket with byte0 5 or 6: link_input(); false: not from a server */

#include "loop/loop.h"
#include "rendezvous/presence.h"

#define LINK_SERVER_MAX 300 /* characters of HOST:PORT with its NUL */

enum link_transport { LINK_NONE, LINK_UDP, LINK_TLS };

struct link_status {
    enum link_transport transport;
    struct addr addr;    /* in use; len 0: none yet */
    bool own_port;       /* TLS, and from the port of link_host.tcp_connect() */
    const char *trouble; /* a sentence, or NULL; valid until the next call */
};

struct link_host {
    /* Out of the shared UDP socket. Losing it is allowed. */
    void (*udp_send)(void *ctx, const struct addr *to, const void *bytes, size_t n);
    /* Begins to connect from the port where peers may connect, too, so that the server sees that
     * one and NATs keep it: a descriptor, or a negative errno: then it is done from any port. NULL:
     * there is none. */
    int (*tcp_connect)(void *ctx, const struct addr *to);
    void (*message)(void *ctx, const struct presence_way *way, const void *bytes, size_t n);
    /* Relay data: what is behind its head. `channel` is our side's number. */
    void (*data)(void *ctx, const struct presence_way *way, uint32_t channel, const void *bytes,
                 size_t n);
    /* Bytes for this server go by another transport or to another address now. */
    void (*moved)(void *ctx, uint32_t server);
    /* link_status() has changed. */
    void (*status)(void *ctx, uint32_t server);
};

struct link;

/* Servers as the user gave them: HOST:PORT, [ADDRESS]:PORT, or a NAME whose SRV records
 * (_berth._udp) or else port 3478 say where. `known_servers` is the file of their keys. */
struct link_config {
    const char *const *servers;
    uint32_t count;
    const char *known_servers; /* path; copied */
    bool no_udp;               /* TLS only */
    uint32_t probe_ms;         /* on TLS, between attempts by UDP; 0: a minute */
};

/* -EINVAL for a server that is none, -ENOMEM, ... */
int link_new(struct loop *loop, const struct link_host *host, void *ctx,
             const struct link_config *config, struct link **ret_link) WARN_UNUSED;
void link_free(struct link *l);

/* A message (presence_host.send). What cannot be sent now is dropped; it will be asked again. */
void link_send(struct link *l, const struct presence_way *way, const void *bytes, size_t n);
/* Relay data. -EAGAIN: no transport, or too much waits in it: lost, as a datagram. */
int link_send_data(struct link *l, const struct presence_way *way, uint32_t channel,
                   const void *bytes, size_t n) WARN_UNUSED;
/* The same, of a call whose channel is not known yet, right behind the call. */
int link_send_early(struct link *l, const struct presence_way *way, uint64_t call,
                    const void *bytes, size_t n) WARN_UNUSED;
/* A datagram of the shared UDP socket. False: it is not from a server or relay of ours. */
bool link_input(struct link *l, const struct addr *from, const void *bytes, size_t n);
/* Resolves anew and tries UDP again, at once: another network. */
void link_network_changed(struct link *l);

/* As the user gave it. */
const char *link_server_name(const struct link *l, uint32_t server);
void link_status(const struct link *l, uint32_t server, struct link_status *ret_status);
