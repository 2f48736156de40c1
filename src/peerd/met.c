/* Reads, keeps and writes where peers have answered. Keys and addresses come in and go out; the
 * struct owns its list. */
#include "peerd/met.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/replace.h"

#define LINE_SIZE 1024
/* What is known already is written again after so long. */
#define FRESH_S 3600

static bool line_parse(char *line, struct met_peer *ret_peer)
{
    struct met_peer p = {.count = 0};
    char *rest = NULL, *end = NULL;
    const char *key = strtok_r(line, " \n", &rest), *seen = strtok_r(NULL, " \n", &rest);
    if (!key || !seen || key_parse(str_of(key), &p.key) < 0)
        return false;
    p.seen_s = strtoull(seen, &end, 10);
    for (const char *a; *end == 0 && (a = strtok_r(NULL, " \n", &rest));)
        if (p.count < MET_ADDRS_MAX && addr_parse(a, &p.addrs[p.count]) == 0)
            p.count++;
    *ret_peer = p;
    return p.count > 0;
}

int met_load(struct met *m, const char *path)
{
    char line[LINE_SIZE];
    *m = (struct met){.path = strdup(path), .peers = calloc(MET_MAX, sizeof *m->peers)};
    if (!m->path || !m->peers) {
        met_done(m);
        return -ENOMEM;
    }
    FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? 0 : -errno;
    while (m->count < MET_MAX && fgets(line, sizeof line, f))
        if (line_parse(line, &m->peers[m->count]))
            m->count++;
    (void)fclose(f);
    return 0;
}

void met_done(struct met *m)
{
    free(m->peers);
    free(m->path);
    *m = (struct met){.count = 0};
}

const struct met_peer *met_find(const struct met *m, const struct key *key)
{
    for (size_t i = 0; i < m->count; i++)
        if (key_equal(&m->peers[i].key, key))
            return &m->peers[i];
    return NULL;
}

static struct met_peer *place_for(struct met *m, const struct key *key)
{
    struct met_peer *oldest = &m->peers[0];
    for (size_t i = 0; i < m->count; i++) {
        if (key_equal(&m->peers[i].key, key))
            return &m->peers[i];
        if (m->peers[i].seen_s < oldest->seen_s)
            oldest = &m->peers[i];
    }
    if (m->count < MET_MAX)
        oldest = &m->peers[m->count++];
    *oldest = (struct met_peer){.key = *key};
    return oldest;
}

/* A link-local address means nothing without its interface, whose number may be another's soon. */
static bool is_worth(const struct addr *a)
{
    bool link_local = a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&a->v6.sin6_addr);
    return a->len > 0 && addr_port(a) != 0 && !link_local;
}

bool met_note(struct met *m, const struct key *key, const struct addr *at, uint64_t now_s)
{
    if (!m->peers || !is_worth(at))
        return false;
    struct met_peer *p = place_for(m, key);
    size_t i = 0;
    while (i < p->count && !addr_equal(&p->addrs[i], at))
        i++;
    bool worth = i > 0 || p->count == 0 || now_s - p->seen_s > FRESH_S;
    if (i == p->count && p->count < MET_ADDRS_MAX)
        p->count++;
    i = i < MET_ADDRS_MAX ? i : MET_ADDRS_MAX - 1;
    memmove(&p->addrs[1], &p->addrs[0], i * sizeof *p->addrs);
    p->addrs[0] = *at;
    p->seen_s = worth ? now_s : p->seen_s;
    return worth;
}

static void line_write(FILE *f, const struct met_peer *p)
{
    char key[KEY_TEXT_MAX], addr[ADDR_TEXT_MAX];
    (void)fprintf(f, "%s %llu", key_format(&p->key, key), (unsigned long long)p->seen_s);
    for (size_t i = 0; i < p->count; i++)
        (void)fprintf(f, " %s", addr_format(&p->addrs[i], addr));
    (void)fputc('\n', f);
}

int met_save(const struct met *m)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return -ENOMEM;
    for (size_t i = 0; i < m->count; i++)
        line_write(f, &m->peers[i]);
    int r = fclose(f) != 0 ? -ENOMEM : replace_file(m->path, (struct str){text, n}, 0600, false);
    free(text);
    return r;
}
