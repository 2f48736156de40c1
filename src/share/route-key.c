/* What the table of routes is sorted by and hashed with: addresses as keys, texts, host names.
 * Pure.
 */
#include "share/route-table.h"

struct ipkey route_ipkey(const struct addr *a)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    struct ipkey k = {.family = (uint8_t)a->sa.sa_family};
    const uint8_t *ip = (const uint8_t *)&a->v6.sin6_addr;
    switch (a->sa.sa_family) {
    case AF_INET:
        k.size = 4;
        memcpy(k.ip, &a->v4.sin_addr, 4);
        break;
    case AF_INET6:
        if (memcmp(ip, mapped, sizeof mapped) == 0) {
            k.family = AF_INET;
            k.size = 4;
            memcpy(k.ip, ip + sizeof mapped, 4);
        } else {
            k.size = 16;
            memcpy(k.ip, ip, 16);
        }
        break;
    case AF_UNIX:
        k.path = a->un.sun_path;
        k.size = (uint8_t)strnlen(k.path, sizeof a->un.sun_path);
        break;
    default:
        k.family = AF_UNSPEC;
    }
    return k;
}

int route_text_cmp(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int d = n > 0 ? memcmp(a.p, b.p, n) : 0;
    return d ? d : (a.n > b.n) - (a.n < b.n);
}

int route_ipkey_cmp(const struct ipkey *a, const struct ipkey *b)
{
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    if (a->family == AF_UNIX)
        return route_text_cmp((struct str){a->path, a->size}, (struct str){b->path, b->size});
    return memcmp(a->ip, b->ip, sizeof a->ip);
}

/* Two multiplications for eight bytes. The seed keeps registered names from being chosen so that
 * they all collide. */
uint64_t route_hash(uint64_t seed, struct str host)
{
    const uint64_t odd = 0x9e3779b97f4a7c15u; /* 2^64 divided by the golden ratio */
    uint64_t h = seed ^ host.n;
    for (size_t i = 0; i < host.n; i += 8) {
        uint64_t v = 0;
        if (host.n - i >= 8)
            memcpy(&v, host.p + i, 8);
        else
            for (size_t j = i; j < host.n; j++)
                v = v << 8 | (uint8_t)host.p[j];
        h = (h ^ v) * odd;
        h = (h ^ h >> 32) * odd;
    }
    return h;
}

uint64_t route_hash_key(uint64_t hash, uint32_t scope, enum route_scheme scheme,
                        enum host_kind kind)
{
    uint64_t key = (uint64_t)scope << 16 | (uint64_t)scheme << 8 | (uint64_t)kind;
    hash = (hash ^ key) * 0xd6e8feb86659fd93u;
    return hash ^ hash >> 32;
}

bool route_ipkey_is_wildcard(const struct ipkey *k)
{
    static const uint8_t zero[16];
    return (k->family == AF_INET || k->family == AF_INET6) && memcmp(k->ip, zero, 16) == 0;
}
