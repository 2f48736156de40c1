#pragma once
/* A peer's record: what it says of itself, signed, so that a server can withhold it but not change
 * it. The codec is pure; signatures are made and checked by rendezvous/signed.h. docs/RENDEZVOUS.md
 * shows the bytes. */

#include "base/addr.h"
#include "base/fd.h"
#include "base/str.h"
#include "wire/name.h"

#define RECORD_VERSION        1
#define RECORD_KEY            32
#define RECORD_SIGNATURE      64
#define RECORD_MAX            1024 /* bytes with the signature */
#define RECORD_CANDIDATES_MAX 16
#define RECORD_PORTS_MAX      8
#define RECORD_SERVICES_MAX   16
#define RECORD_NAME_MAX       WIRE_NAME_MAX /* characters of a service's name, or of a peer's */
#define RECORD_RELAY_MAX      128

enum record_kind { RECORD_HOST = 1, RECORD_REFLEXIVE, RECORD_MAPPED, RECORD_KIND_END };
enum record_transport { RECORD_UDP = 1, RECORD_TCP, RECORD_TRANSPORT_END };

struct record_candidate {
    enum record_kind kind;
    enum record_transport transport;
    struct addr addr; /* IPv4 or IPv6 */
};

struct record_port {
    enum record_transport transport;
    uint16_t port;
};

struct record_service {
    struct str name;
    enum record_transport transport;
    uint16_t port; /* at the record's addresses; 0: not reachable by address */
};

/* Slices of a decoded record point into its bytes. */
struct record {
    uint8_t key[RECORD_KEY];
    uint64_t sequence;
    uint64_t not_after; /* Unix time, seconds */
    struct record_candidate candidates[RECORD_CANDIDATES_MAX];
    size_t candidate_count;
    struct record_port ports[RECORD_PORTS_MAX];
    size_t port_count;
    struct record_service services[RECORD_SERVICES_MAX];
    size_t service_count;
    struct str relay; /* HOST:PORT, or empty */
};

/* Without the signature. Length, or -EMSGSIZE. */
int record_encode(const struct record *r, void *buf, size_t size) WARN_UNUSED;
/* Of a signed record; the signature is not looked at. -EBADMSG, or -EPROTONOSUPPORT for a version
 * that is not known here. Fields of an unknown type are passed over. */
int record_decode(struct record *ret_record, const void *buf, size_t n) WARN_UNUSED;
/* The part of a signed record that is signed, and the signature behind it. -EBADMSG. */
int record_split(struct str signed_record, struct str *ret_body,
                 const uint8_t **ret_signature) WARN_UNUSED;

/* Of a record that decodes. */
uint64_t record_not_after(struct str signed_record);

/* a-z, 0-9 and inner hyphens, 1 to RECORD_NAME_MAX: the rule for names of services and of peers. A
 * key in text form is longer, so it is never taken for a name. */
bool record_name_valid(struct str name);
