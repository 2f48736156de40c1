#pragma once
/* A network in memory with a clock of its own: two hosts behind NATs, and machines of src/punch on
 * them. Packets are lost, doubled and overtaken as asked; the same seed gives the same run. */

#include "punch/punch.h"

#define SIM_SOCKETS  400
#define SIM_MAPPINGS 4096
#define SIM_PACKETS  8192

struct sim_mapping {
    uint16_t local, port; /* port: outside */
    struct addr key;      /* the remote end, as far as it counts */
    bool used;
};

struct sim_nat {
    struct nat is;   /* what it does */
    bool open_input; /* a router that accepts what nobody asked for */
    unsigned depth;  /* routers on the way out, the NAT included */
    unsigned busy;   /* ports that others take of a sequence in 40 ms: none to so many */
    uint64_t busy_us;
    struct sim_mapping mappings[SIM_MAPPINGS];
    size_t mapping_count;
    struct {
        uint16_t local;
        struct addr to;
    } permitted[SIM_MAPPINGS];
    size_t permitted_count;
    struct {
        uint16_t port;
        struct addr from;
    } taken[64]; /* flows that open_input has let the router have for itself */
    size_t taken_count;
    uint16_t next_port;
    /* A port that the router maps because it was asked to: to socket 0, for everybody; and who came
     * through it. 0: none. */
    uint16_t mapped;
    struct addr through[64];
    size_t through_count;
};

struct sim_host {
    struct sim_nat nat;
    struct addr inside, outside; /* without ports */
    uint16_t ports[SIM_SOCKETS]; /* of the sockets, by their number; 0: none */
    uint16_t next_local;
    struct punch *machine;
    /* What its machine said. */
    bool proven, done, failed;
    struct punch_path path;
    enum punch_reason reason;
    uint64_t proven_us;
    unsigned sent, opened;
    uint64_t sent_at_us[8192]; /* of each packet; the first 8,192 */
};

struct sim_packet {
    uint64_t due_us, order;
    struct addr from, to;
    unsigned ttl;
    uint8_t bytes[PROBE_SIZE];
};

struct sim {
    struct sim_host a, b;
    uint64_t now_us, delay_us, jitter_us, order, random;
    unsigned loss, doubled; /* of 100 */
    unsigned hops;          /* routers between the two, the other one's NAT included */
    uint64_t introduced_us; /* from the samples to the start */
    bool again;             /* what the machines are told */
    enum technique hint;
    bool same_lan;
    struct sim_packet packets[SIM_PACKETS];
    size_t packet_count;
    struct addr victim; /* packets to this address are counted */
    unsigned victim_packets;
};

/* On the heap; NAT words as nat_format() has them: "eim/apdf/keep", "apdm/apdf/sequence+1". */
struct sim *sim_new(const char *nat_a, const char *nat_b, uint64_t seed);
void sim_free(struct sim *s);

/* Where a server sees this socket of the host. */
struct addr sim_seen(struct sim *s, struct sim_host *h, unsigned socket, struct addr server);
/* What a host learns of its own NAT by asking two servers with fresh sockets. */
struct nat sim_classify(struct sim *s, struct sim_host *h);
/* Both hosts gather, tell each other, and start. b starts `late_us` after a. */
void sim_introduce(struct sim *s, uint64_t late_us);
/* The same, after an attempt: both sockets are fresh. */
void sim_again(struct sim *s, uint64_t late_us);
/* Both NATs forget everything. */
void sim_rebind(struct sim *s);
/* Until both are proven (and done) or failed, or the clock stands at until_us. */
void sim_run(struct sim *s, uint64_t until_us);

uint32_t sim_random(struct sim *s, uint32_t below);
extern punch_mac sim_mac;
