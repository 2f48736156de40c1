/* berth peers: the keys that names had when they were first seen, shown, accepted and forgotten. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/peerd.h"

static const char help[] =
    "usage: berth peers [--json]\n"
    "       berth peers accept NAME KEY\n"
    "       berth peers forget NAME|KEY\n"
    "       berth peers stop\n"
    "\n"
    "Lists the peers that were met, with the key that each name had when it was first seen. "
    "Another "
    "key\n"
    "for a known name is an error, wherever it comes from, until it is accepted here; ask the "
    "peer's owner\n"
    "for the key by another way first. What is forgotten is trusted anew on its next first use.\n"
    "\n"
    "Of those that are connected it shows the path, the round trip and the bytes.\n"
    "\n"
    "`stop` ends berth-peer with all its sessions; what is published comes back with the next "
    "one.\n"
    "\n"
    "They are kept in the file `peers` beside the key (see `berth key --help`).\n";

static int open_file(bool change, struct known *ret_known)
{
    char path[4096];
    size_t line = 0;
    int r = peer_known_path(path, sizeof path);
    if (r < 0)
        return cli_fail("peers", "neither $HOME nor $BERTH_KEY says where known peers are kept");
    if (change)
        r = keys_folder_make(path);
    if (r == 0)
        r = known_open(path, change, ret_known, &line);
    if (line > 0)
        return cli_fail("peers", "%s: line %zu makes no sense", path, line);
    return r < 0 ? cli_fail("peers", "%s: %s", path, strerror(-r)) : CLI_OK;
}

/* What berth-peer knows of them now; NULL when none runs. */
static json_t *live_get(void)
{
    const char *argv[] = {"peers", NULL};
    char *text = NULL;
    CLEANUP_FD int fd = daemon_peer_connect(false);
    json_t *j = fd >= 0 && daemon_command(fd, argv, -EBADF, NULL, &text) == 0
                    ? json_loads(text, 0, NULL)
                    : NULL;
    free(text);
    return j;
}

static json_t *live_of(const json_t *live, const char *key)
{
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(live, "peers"), i,
                       p) if (strcmp(json_string_value(json_object_get(p, "key")), key) ==
                              0) return p;
    return NULL;
}

static json_t *peer_json(const struct known_peer *p, const json_t *live)
{
    char key[KEY_TEXT_MAX];
    json_t *j = json_pack("{s:s?, s:s, s:I, s:I}", "name", *p->name ? p->name : NULL, "key",
                          key_format(&p->key, key), "since", (json_int_t)p->since, "sequence",
                          (json_int_t)p->sequence);
    static const char *const of_now[] = {"session", "moves", "falls"};
    const json_t *now = live_of(live, key);
    for (size_t i = 0; i < sizeof of_now / sizeof *of_now; i++)
        if (json_object_get(now, of_now[i]))
            (void)json_object_set(j, of_now[i], json_object_get(now, of_now[i]));
    return j;
}

static bool is_pinned(const struct known *k, const json_t *peer)
{
    struct key key;
    const char *text = json_string_value(json_object_get(peer, "key"));
    return key_parse(str_of(text), &key) == 0 && known_find(k, "", &key);
}

/* Those that are pinned, and those that are only connected. */
static json_t *all_json(const struct known *k, const json_t *live)
{
    size_t i;
    json_t *p, *list = json_array();
    for (i = 0; i < k->count; i++)
        (void)json_array_append_new(list, peer_json(&k->peers[i], live));
    json_array_foreach(json_object_get(live, "peers"), i,
                       p) if (!is_pinned(k, p) && json_object_get(p, "session"))(void)
        json_array_append(list, p);
    return list;
}

static void bytes_format(json_int_t n, char buf[16])
{
    static const char units[] = "BKMGTP";
    double v = (double)n;
    size_t u = 0;
    for (; v >= 1000 && u + 2 < sizeof units; u++)
        v /= 1024;
    (void)snprintf(buf, 16, u ? "%.1f %c" : "%.0f %c", v, units[u]);
}

static void session_print(const json_t *s)
{
    const char *address = json_string_value(json_object_get(s, "address"));
    char in[16], out[16];
    if (!s) {
        (void)putchar('-');
        return;
    }
    const char *transport = json_string_value(json_object_get(s, "transport"));
    bool tcp = transport && strcmp(transport, "tcp") == 0;
    bytes_format(json_integer_value(json_object_get(s, "bytes_in")), in);
    bytes_format(json_integer_value(json_object_get(s, "bytes_out")), out);
    (void)printf("%-7s %6.1f ms %9s %9s  %s%s", json_string_value(json_object_get(s, "path")),
                 (double)json_integer_value(json_object_get(s, "rtt_us")) / 1000, in, out,
                 address ? address : "", tcp ? " (TCP)" : "");
}

static void list_print(const json_t *list)
{
    size_t i;
    const json_t *p;
    if (json_array_size(list) == 0) {
        (void)puts("no peer is known yet: berth lookup NAME --rendezvous HOST:PORT");
        return;
    }
    (void)printf("%s%-16s %-56s %-16s %-7s %9s %9s %9s  %s%s\n", cli_style(stdout, STYLE_BOLD),
                 "NAME", "KEY", "FIRST SEEN", "PATH", "RTT", "IN", "OUT", "THROUGH",
                 cli_style(stdout, STYLE_NONE));
    json_array_foreach(list, i, p)
    {
        const char *name = json_string_value(json_object_get(p, "name"));
        json_int_t since = json_integer_value(json_object_get(p, "since"));
        char when[PEER_TIME_MAX];
        (void)printf("%-16s %s %-16.16s ", name && *name ? name : "-",
                     json_string_value(json_object_get(p, "key")),
                     since ? peer_time((uint64_t)since, when) : "-");
        session_print(json_object_get(p, "session"));
        (void)putchar('\n');
    }
}

static int list(bool as_json)
{
    struct known k;
    int status = open_file(false, &k);
    if (status != CLI_OK)
        return status;
    json_t *live = live_get(), *all = all_json(&k, live);
    if (as_json) {
        json_t *j =
            json_pack("{s:O, s:O*}", "peers", all, "keeping", json_object_get(live, "keeping"));
        if (json_dumpf(j, stdout, JSON_INDENT(2)) == 0)
            (void)putchar('\n');
        json_decref(j);
    } else {
        list_print(all);
    }
    json_decref(all);
    json_decref(live);
    known_done(&k);
    return CLI_OK;
}

static int key_read(const char *text, struct key *ret_key)
{
    int r = key_parse(str_of(text), ret_key);
    if (r == -EBADMSG)
        return cli_fail("peers", "%s is mistyped: its checksum is wrong", text);
    return r < 0 ? cli_fail("peers", "'%s' is no key", text) : CLI_OK;
}

static int save(const struct known *k)
{
    int r = known_save(k);
    return r < 0 ? cli_fail("peers", "%s cannot be written: %s", k->path, strerror(-r)) : CLI_OK;
}

static int accept_key(const char *name, const char *text)
{
    struct known_peer p = {.since = (uint64_t)time(NULL)};
    struct known k;
    if (!record_name_valid(str_of(name)))
        return cli_fail("peers", "'%s' is no name", name);
    int status = key_read(text, &p.key);
    if (status == CLI_OK)
        status = open_file(true, &k);
    if (status != CLI_OK)
        return status;
    memcpy(p.name, name, strlen(name) + 1);
    struct known_peer *old = known_by_name(&k, name);
    int r = 0;
    if (old)
        *old = p;
    else
        r = known_add(&k, &p);
    status = r < 0 ? cli_fail("peers", "%s", strerror(-r)) : save(&k);
    known_done(&k);
    return status;
}

static int forget(const char *text)
{
    struct known k;
    struct key key;
    bool by_key = !record_name_valid(str_of(text));
    int status = by_key ? key_read(text, &key) : CLI_OK;
    if (status == CLI_OK)
        status = open_file(true, &k);
    if (status != CLI_OK)
        return status;
    struct known_peer *p = by_key ? known_find(&k, "", &key) : known_by_name(&k, text);
    if (p) {
        known_remove(&k, p);
        status = save(&k);
    } else {
        status = cli_fail("peers", "%s is not known", text);
    }
    known_done(&k);
    return status;
}

/* Publications come back with the next berth-peer. */
static int stop(void)
{
    struct peerd_ask a;
    char *text = NULL;
    peerd_begin(&a, "halt");
    int status = peerd_run("peers", &a, false, &text);
    free(text);
    peerd_end(&a);
    return status;
}

int cmd_peers(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "--help") == 0) {
        (void)fputs(help, stdout);
        return CLI_OK;
    }
    int status = peer_start("peers");
    if (status != CLI_OK)
        return status;
    if (argc == 1 || (argc == 2 && strcmp(word, "--json") == 0))
        return list(argc == 2);
    if (strcmp(word, "accept") == 0)
        return argc == 4 ? accept_key(argv[2], argv[3]) : cli_usage("peers", "accept NAME KEY");
    if (strcmp(word, "forget") == 0)
        return argc == 3 ? forget(argv[2]) : cli_usage("peers", "forget NAME, or forget KEY");
    if (strcmp(word, "stop") == 0 && argc == 2)
        return stop();
    return cli_usage("peers", "unexpected argument '%s'", word);
}
