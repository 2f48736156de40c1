/* Reads, keeps and writes what is known of networks. Networks come in and go out; the struct owns
 * its list. Nothing that the file says is believed but numbers within their ranges. */
#include "peerd/networks.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/replace.h"
#include "punch/candidate.h"

#define LINE_SIZE 256
/* Of a file, whatever has become of it. */
#define LINES_MAX 1024
#define PROC_SIZE 16384
#define WORDS     9
/* Columns of /proc/net/route and /proc/net/arp. */
#define ROUTE_GATEWAY 2
#define ROUTE_FLAGS   3
#define ROUTE_UP      0x0003u /* RTF_UP, RTF_GATEWAY */
#define ARP_MAC       3

static size_t words_split(char *line, char *ret_words[WORDS])
{
    char *rest = NULL;
    size_t n = 0;
    for (char *w = strtok_r(line, " \t\n", &rest); w; w = strtok_r(NULL, " \t\n", &rest)) {
        if (n == WORDS)
            return WORDS + 1;
        ret_words[n++] = w;
    }
    return n;
}

/* A number from low to high, else `failed`. */
static long number(const char *text, long low, long high, bool *failed)
{
    char *end = NULL;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || end == text || *end || v < low || v > high) {
        *failed = true;
        return 0;
    }
    return v;
}

static bool line_parse(char *line, struct network *ret_network)
{
    struct network n = {.at_s = 0};
    char *w[WORDS];
    bool failed = false;
    if (words_split(line, w) != WORDS || strlen(w[0]) >= sizeof n.id.gateway ||
        addr_parse(w[1], &n.id.own) < 0 || addr_parse(w[2], &n.seen) < 0)
        return false;
    memcpy(n.id.gateway, w[0], strlen(w[0]) + 1);
    n.nat.mapping = (enum nat_mapping)number(w[3], 0, NAT_MAPPING_END - 1, &failed);
    n.nat.filtering = (enum nat_filtering)number(w[4], 0, NAT_FILTERING_END - 1, &failed);
    n.nat.allocation = (enum nat_allocation)number(w[5], 0, NAT_ALLOCATION_END - 1, &failed);
    n.nat.delta = (int16_t)number(w[6], INT16_MIN, INT16_MAX, &failed);
    n.nat.block_first = (uint16_t)number(w[7], 0, UINT16_MAX, &failed);
    n.at_s = (uint64_t)number(w[8], 0, INT64_MAX, &failed);
    *ret_network = n;
    return !failed;
}

int networks_load(struct networks *n, const char *path)
{
    char line[LINE_SIZE];
    *n = (struct networks){.path = strdup(path)};
    if (!n->path)
        return -ENOMEM;
    FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? 0 : -errno;
    for (int i = 0; i < LINES_MAX && n->count < NETWORKS_MAX && fgets(line, sizeof line, f); i++)
        if (line_parse(line, &n->at[n->count]))
            n->count++;
    (void)fclose(f);
    return 0;
}

void networks_done(struct networks *n)
{
    free(n->path);
    *n = (struct networks){.count = 0};
}

static bool id_equal(const struct network_id *a, const struct network_id *b)
{
    return strcmp(a->gateway, b->gateway) == 0 && candidate_same_ip(&a->own, &b->own);
}

const struct network *networks_find(const struct networks *n, const struct network_id *id,
                                    uint64_t now_s)
{
    const struct network *found = NULL;
    for (size_t i = 0; i < n->count; i++)
        if (id_equal(&n->at[i].id, id) && (!found || n->at[i].at_s > found->at_s))
            found = &n->at[i];
    return found && found->at_s <= now_s && now_s - found->at_s < NETWORKS_FRESH_S ? found : NULL;
}

static bool nat_equal(const struct nat *a, const struct nat *b)
{
    return a->mapping == b->mapping && a->filtering == b->filtering &&
           a->allocation == b->allocation && a->delta == b->delta &&
           a->block_first == b->block_first;
}

static struct network *oldest(struct networks *n)
{
    struct network *found = &n->at[0];
    for (size_t i = 1; i < n->count; i++)
        if (n->at[i].at_s < found->at_s)
            found = &n->at[i];
    return found;
}

bool networks_note(struct networks *n, const struct network *network)
{
    struct network *place = NULL;
    for (size_t i = 0; i < n->count && !place; i++)
        if (id_equal(&n->at[i].id, &network->id) &&
            candidate_same_ip(&n->at[i].seen, &network->seen))
            place = &n->at[i];
    bool worth = !place || !nat_equal(&place->nat, &network->nat) ||
                 network->at_s - place->at_s > NETWORKS_FRESH_S / 30;
    if (!place)
        place = n->count < NETWORKS_MAX ? &n->at[n->count++] : oldest(n);
    *place = *network;
    return worth;
}

static void line_write(FILE *f, const struct network *n)
{
    char own[ADDR_TEXT_MAX], seen[ADDR_TEXT_MAX];
    (void)fprintf(f, "%s %s %s %d %d %d %d %u %llu\n", n->id.gateway, addr_format(&n->id.own, own),
                  addr_format(&n->seen, seen), n->nat.mapping, n->nat.filtering, n->nat.allocation,
                  n->nat.delta, n->nat.block_first, (unsigned long long)n->at_s);
}

int networks_save(const struct networks *n)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = n->path ? open_memstream(&text, &size) : NULL;
    if (!f)
        return n->path ? -ENOMEM : 0;
    for (size_t i = 0; i < n->count; i++)
        line_write(f, &n->at[i]);
    int r = fclose(f) != 0 ? -ENOMEM : replace_file(n->path, (struct str){text, size}, 0600, false);
    free(text);
    return r;
}

/* This machine's network ----------------------------------------------------------------------- */

/* The next line, cut to what a line may have. */
static bool line_take(struct str *text, char ret[LINE_SIZE])
{
    const char *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
    size_t n = end ? (size_t)(end - text->p) : text->n, kept = n < LINE_SIZE ? n : LINE_SIZE - 1;
    if (text->n == 0)
        return false;
    memcpy(ret, text->p, kept);
    ret[kept] = '\0';
    *text = str_skip(*text, end ? n + 1 : n);
    return true;
}

/* Words of a line; those that are more than we have use for are left out. */
static size_t columns(char *line, char *ret_words[WORDS])
{
    char *rest = NULL;
    size_t n = 0;
    for (char *w = strtok_r(line, " \t", &rest); w && n < WORDS; w = strtok_r(NULL, " \t", &rest))
        ret_words[n++] = w;
    return n;
}

/* Of the first default route: the kernel's number is in the order of the machine's bytes. */
static bool gateway_find(struct str routes, char ret[NETWORK_GATEWAY_MAX])
{
    char line[LINE_SIZE], *w[WORDS], text[ADDR_TEXT_MAX];
    while (line_take(&routes, line)) {
        if (columns(line, w) <= ROUTE_FLAGS || strcmp(w[1], "00000000") != 0)
            continue;
        uint32_t ip = (uint32_t)strtoul(w[ROUTE_GATEWAY], NULL, 16);
        if ((strtoul(w[ROUTE_FLAGS], NULL, 16) & ROUTE_UP) != ROUTE_UP)
            continue;
        struct addr a = addr_make(AF_INET, &ip, 1);
        addr_format(&a, text);
        *strrchr(text, ':') = '\0';
        (void)snprintf(ret, NETWORK_GATEWAY_MAX, "%.40s", text);
        return true;
    }
    return false;
}

void network_gateway(struct str routes, struct str neighbours, char ret[NETWORK_GATEWAY_MAX])
{
    char line[LINE_SIZE], *w[WORDS];
    (void)snprintf(ret, NETWORK_GATEWAY_MAX, "-");
    if (!gateway_find(routes, ret))
        return;
    while (line_take(&neighbours, line)) {
        if (columns(line, w) <= ARP_MAC || strcmp(w[0], ret) != 0 || strlen(w[ARP_MAC]) != 17 ||
            strcmp(w[ARP_MAC], "00:00:00:00:00:00") == 0)
            continue;
        (void)snprintf(ret, NETWORK_GATEWAY_MAX, "%s", w[ARP_MAC]);
        return;
    }
}

static struct str file_read(const char *path, char buf[PROC_SIZE])
{
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(buf, 1, PROC_SIZE, f) : 0;
    if (f)
        (void)fclose(f);
    return (struct str){buf, n};
}

void network_here(struct network_id *ret_id, const struct addr *own)
{
    char routes[PROC_SIZE], neighbours[PROC_SIZE];
    *ret_id = (struct network_id){.own = *own};
    network_gateway(file_read("/proc/net/route", routes), file_read("/proc/net/arp", neighbours),
                    ret_id->gateway);
}
