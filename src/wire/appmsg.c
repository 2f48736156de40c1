/* Encodes and decodes the messages of appmsg.h. A table says which fields each type carries, and
 * one function a direction walks them in order. Pure: bytes in, values out. */
#include "wire/appmsg.h"

#include <stdio.h>

#include "wire/addrcode.h"

#define MAGIC   0xbe47
#define VERSION 1

enum {
    F_FLAGS = 1 << 0,
    F_INSTANCE = 1 << 1,
    F_NAME = 1 << 2,
    F_COMMAND = 1 << 3,
    F_ROUTES = 1 << 4,
    F_LISTENS = 1 << 5,
    F_ADDR = 1 << 6,
    F_V6ONLY = 1 << 7,
    F_LOCAL = 1 << 8,
    F_QUEUE = 1 << 9,
    F_OPTION = 1 << 10,
    F_ERR = 1 << 11,
    F_PROTO = 1 << 12,
    F_VALUE = 1 << 13,
    F_TEXT = 1 << 14,
    F_SNIFFED = 1 << 15,
};

static const uint32_t fields[APPMSG_TYPE_COUNT] = {
    [APPMSG_APP] = F_FLAGS | F_INSTANCE | F_NAME | F_COMMAND | F_ROUTES | F_LISTENS,
    [APPMSG_BIND] = F_FLAGS | F_ADDR | F_V6ONLY,
    [APPMSG_LISTEN] = F_QUEUE,
    [APPMSG_UNLISTEN] = F_QUEUE,
    [APPMSG_WHY] = F_ADDR | F_ERR,
    [APPMSG_OPTION] = F_OPTION | F_VALUE,
    [APPMSG_CONN] = F_FLAGS | F_ADDR | F_LOCAL | F_PROTO | F_SNIFFED,
    [APPMSG_ERROR] = F_ERR | F_TEXT,
    [APPMSG_TEXT] = F_TEXT,
    [APPMSG_BOUND] = F_QUEUE | F_TEXT,
    [APPMSG_COMMAND] = F_NAME | F_TEXT,
};

static void list_encode(struct wr *w, const struct str *items, uint8_t count)
{
    wr_u8(w, count);
    for (uint8_t i = 0; i < count; i++)
        wr_vec16(w, items[i]);
}

static void list_decode(struct rd *r, struct str *items, uint8_t max, uint8_t *ret_count)
{
    uint8_t count = rd_u8(r);
    if (count > max) {
        r->failed = true;
        return;
    }
    for (uint8_t i = 0; i < count; i++)
        items[i] = rd_vec(r, 2);
    *ret_count = count;
}

int appmsg_encode(const struct appmsg *m, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    uint32_t f = fields[m->type];
    wr_u16(&w, MAGIC);
    wr_u8(&w, VERSION);
    wr_u8(&w, (uint8_t)m->type);
    if (f & F_FLAGS)
        wr_u32(&w, m->flags);
    if (f & F_INSTANCE)
        wr_bytes(&w, m->instance, sizeof m->instance);
    if (f & F_NAME)
        wr_vec16(&w, m->name);
    if (f & F_COMMAND)
        wr_vec16(&w, m->command);
    if (f & F_ROUTES)
        list_encode(&w, m->routes, m->route_count);
    if (f & F_LISTENS)
        list_encode(&w, m->listens, m->listen_count);
    if (f & F_ADDR)
        addr_encode(&w, &m->addr);
    if (f & F_V6ONLY)
        wr_u8(&w, m->v6only);
    if (f & F_LOCAL)
        addr_encode(&w, &m->local);
    if (f & F_QUEUE)
        wr_u32(&w, m->queue);
    if (f & F_OPTION) {
        wr_u32(&w, (uint32_t)m->level);
        wr_u32(&w, (uint32_t)m->option);
    }
    if (f & F_ERR)
        wr_u32(&w, (uint32_t)m->err);
    if (f & F_PROTO)
        wr_u8(&w, m->proto);
    if (f & F_VALUE)
        wr_vec16(&w, m->value);
    if (f & F_TEXT)
        wr_vec16(&w, m->text);
    if (f & F_SNIFFED && m->flags & APPMSG_RICH) {
        wr_vec16(&w, m->host);
        wr_vec16(&w, m->path);
    }
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

int appmsg_decode(struct appmsg *ret_msg, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    uint16_t magic = rd_u16(&r);
    uint8_t version = rd_u8(&r), type = rd_u8(&r);
    if (!rd_ok(&r) || magic != MAGIC || version != VERSION || type == 0 ||
        type >= APPMSG_TYPE_COUNT)
        return -EBADMSG;
    struct appmsg m = {.type = type};
    uint32_t f = fields[type];
    if (f & F_FLAGS)
        m.flags = rd_u32(&r);
    if (f & F_INSTANCE) {
        struct str instance = rd_bytes(&r, sizeof m.instance);
        memcpy(m.instance, instance.p, instance.n);
    }
    if (f & F_NAME)
        m.name = rd_vec(&r, 2);
    if (f & F_COMMAND)
        m.command = rd_vec(&r, 2);
    if (f & F_ROUTES)
        list_decode(&r, m.routes, APPMSG_ROUTES_MAX, &m.route_count);
    if (f & F_LISTENS)
        list_decode(&r, m.listens, APPMSG_LISTENS_MAX, &m.listen_count);
    if (f & F_ADDR)
        addr_decode(&r, &m.addr);
    if (f & F_V6ONLY)
        m.v6only = rd_u8(&r) != 0;
    if (f & F_LOCAL)
        addr_decode(&r, &m.local);
    if (f & F_QUEUE)
        m.queue = rd_u32(&r);
    if (f & F_OPTION) {
        m.level = (int32_t)rd_u32(&r);
        m.option = (int32_t)rd_u32(&r);
    }
    if (f & F_ERR)
        m.err = (int32_t)rd_u32(&r);
    if (f & F_PROTO)
        m.proto = rd_u8(&r);
    if (f & F_VALUE)
        m.value = rd_vec(&r, 2);
    if (f & F_TEXT)
        m.text = rd_vec(&r, 2);
    if (f & F_SNIFFED && m.flags & APPMSG_RICH) {
        m.host = rd_vec(&r, 2);
        m.path = rd_vec(&r, 2);
    }
    if (!rd_ok(&r) || r.left != 0)
        return -EBADMSG;
    *ret_msg = m;
    return 0;
}

char *appmsg_instance_format(const uint8_t instance[APPMSG_INSTANCE],
                             char buf[APPMSG_INSTANCE_TEXT])
{
    for (size_t i = 0; i < APPMSG_INSTANCE; i++)
        (void)snprintf(buf + 2 * i, 3, "%02x", instance[i]);
    return buf;
}

bool appmsg_instance_parse(struct str text, uint8_t ret_instance[APPMSG_INSTANCE])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[APPMSG_INSTANCE] = {0};
    if (text.n != 2 * sizeof bytes)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        const char *at = strchr(digits, ascii_lower(text.p[i]));
        if (!at || !*at)
            return false;
        bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | (at - digits));
    }
    memcpy(ret_instance, bytes, sizeof bytes);
    return true;
}

/* "berth/1/" v6only "/" family port ip "/" queue "-" nonce, all in hexadecimal of fixed width. */
#define NAME_FORMAT "berth/1/%01x/%02x%04x%s/%08x-%08x"

void queue_name_format(const struct queue_name *n, struct sockaddr_un *ret_un, socklen_t *ret_len)
{
    uint8_t ip[16] = {0};
    char hex[33];
    if (n->addr.sa.sa_family == AF_INET)
        memcpy(ip, &n->addr.v4.sin_addr, 4);
    else
        memcpy(ip, &n->addr.v6.sin6_addr, 16);
    for (size_t i = 0; i < sizeof ip; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", ip[i]);
    *ret_un = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len = snprintf(ret_un->sun_path + 1, sizeof ret_un->sun_path - 1, NAME_FORMAT, n->v6only,
                       n->addr.sa.sa_family, addr_port(&n->addr), hex, n->queue, n->nonce);
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

int queue_name_parse(const struct sockaddr_un *un, socklen_t len, struct queue_name *ret_name)
{
    size_t head = offsetof(struct sockaddr_un, sun_path);
    if (un->sun_family != AF_UNIX || len <= head + 1 || len >= sizeof *un || un->sun_path[0] != 0)
        return -EINVAL;
    char text[sizeof un->sun_path] = "";
    memcpy(text, un->sun_path + 1, len - head - 1);
    unsigned v6only, family, port, queue, nonce;
    char hex[33] = "";
    int end = 0;
    if (sscanf(text, "berth/1/%1x/%2x%4x%32[0-9a-f]/%8x-%8x%n", &v6only, &family, &port, hex,
               &queue, &nonce, &end) != 6 ||
        text[end] != 0 || strlen(hex) != 32 || (family != AF_INET && family != AF_INET6))
        return -EINVAL;
    uint8_t ip[16];
    for (size_t i = 0; i < sizeof ip; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return -EINVAL;
        ip[i] = (uint8_t)byte;
    }
    struct queue_name n = {addr_make((int)family, ip, (uint16_t)port), v6only != 0, queue, nonce};
    /* sscanf() takes shorter numbers, too: only the exact text is a name of ours. */
    struct sockaddr_un again;
    socklen_t again_len;
    queue_name_format(&n, &again, &again_len);
    if (again_len != len || memcmp(&again, un, len) != 0)
        return -EINVAL;
    *ret_name = n;
    return 0;
}
