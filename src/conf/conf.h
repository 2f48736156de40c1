#pragma once
/* The configuration: INI text in files, a value out, or every error in it. The value is immutable
 * once read; times are milliseconds, sizes bytes. What keys there are, their types, limits and
 * defaults is one table, schema.c; the comments here say only what a field holds.
 *
 *   /etc/berth/berth.conf, /etc/berth/apps.d/NAME.conf        for root
 *   $XDG_CONFIG_HOME/berth/... (~/.config/berth/...)          for others */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/addr.h"
#include "base/fd.h"
#include "base/str.h"
#include "share/route.h"

#define CONF_NAME_MAX  64 /* an application's name, without the NUL */
#define CONF_LINE_MAX  (16 * 1024)
#define CONF_FILE_MAX  (64 * 1024 * 1024)
#define CONF_LIST_MAX  (1024 * 1024) /* values of one key of one section */
#define CONF_ERROR_MAX 1000          /* errors that are kept; the rest is only counted */

/* Words, ending in a NULL that is not counted: an argument vector as it stands. */
struct conf_list {
    char **items;
    size_t count;
};

struct conf_numbers {
    uint32_t *items;
    size_t count;
};

struct conf_addrs {
    struct addr *items;
    size_t count;
};

/* low == high for a single value. */
struct conf_range {
    uint64_t low, high;
};

/* Off when there is neither a path nor a port. */
struct conf_health {
    char *path;
    uint16_t port;
};

enum conf_unreserved { CONF_UNRESERVED_LOCALHOST, CONF_UNRESERVED_ANYONE, CONF_UNRESERVED_ROOT };
enum conf_start { CONF_START_DEMAND, CONF_START_ALWAYS, CONF_START_MANUAL };
enum conf_ready { CONF_READY_LISTEN, CONF_READY_NOTIFY, CONF_READY_PROBE };
enum conf_send_proxy { CONF_SEND_PROXY_OFF, CONF_SEND_PROXY_V1, CONF_SEND_PROXY_V2 };
enum conf_full { CONF_FULL_503, CONF_FULL_RESET };

/* Where a section stands, and which of its keys were given: bit i for key i of its schema. The file
 * belongs to the struct conf. */
struct conf_place {
    const char *file;
    unsigned line;
    uint64_t given;
    unsigned *lines; /* one for each bit that is set, or NULL: see conf_app_line() */
};

struct conf_global {
    struct conf_place place;
    uint32_t threads; /* 0: one for each core */
    uint64_t silence_ms, header_wait_ms;
    uint32_t min_rate, max_connections, per_source;
    char *access_log, *refusal_log; /* NULL: off */
    struct addr metrics;            /* AF_UNSPEC: off */
    enum conf_unreserved unreserved;
    struct conf_list rendezvous; /* HOST:PORT; the daemons do not ask them, the command line does */
};

struct conf_app {
    struct conf_place place;
    char *name;
    struct conf_list routes; /* as written; conf_route() has their values */
    struct conf_addrs listen;
    struct conf_list command;
    char *to; /* instead of a command; NULL: not given */
    enum conf_send_proxy send_proxy;
    char *user, *group, *directory; /* NULL: not given */
    struct conf_list environment;   /* KEY=VALUE */
    uint32_t umask;
    struct conf_numbers ports;
    bool proxy;
    bool pass_sockets; /* as LISTEN_FDS */
    bool overlap;
    struct conf_range workers;
    enum conf_start start;
    uint64_t start_timeout_ms, idle_timeout_ms, patience_ms, drain_timeout_ms, stop_timeout_ms;
    enum conf_ready ready;
    struct conf_health health;
    uint64_t health_interval_ms, health_timeout_ms, stall_timeout_ms, watchdog_ms;
    uint32_t failures; /* 0: no protection */
    uint64_t failure_interval_ms;
    struct conf_range pause_ms;
    uint64_t recycle_after_ms;
    struct conf_numbers recycle_at; /* minutes since midnight, local time */
    uint32_t recycle_connections;
    uint64_t recycle_memory;
    struct conf_list watch;
    uint64_t watch_delay_ms;
    uint32_t queue_length;
    enum conf_full queue_full;
    uint32_t connections, per_source;
    uint64_t memory_max;
    uint32_t cpu_max; /* per cent of one CPU */
    uint32_t tasks_max, files_max;
    uint64_t log_size;
    uint32_t log_files;
};

struct conf_reserve {
    struct conf_place place;
    char *route; /* as written */
    char *user;
    bool delegate;
    uint32_t status;
};

struct conf_index; /* names to numbers; see index.h */

/* Applications and reservations stand in the order in which they were read. */
struct conf {
    struct conf_global global;
    struct conf_app *apps;
    size_t app_count;
    struct conf_reserve *reserves;
    size_t reserve_count;
    struct conf_list files; /* all that were read */
    struct conf_index *names;
};

/* One mistake. line 0: the file as a whole; section and key may be empty, never NULL. */
struct conf_error {
    char *file, *section, *key, *sentence;
    unsigned line;
};

struct conf_errors {
    struct conf_error *items;
    size_t count;
    size_t dropped; /* more than CONF_ERROR_MAX */
};

void conf_errors_done(struct conf_errors *e);
/* "FILE:LINE: [SECTION] KEY: SENTENCE", of which the parts that are empty are left out. */
void conf_error_print(const struct conf_error *e, FILE *f);

/* Reads a file, or a folder with berth.conf and apps.d/ in it (both may be missing); NULL: the
 * default place, where nothing needs to be. 0 and a configuration; -EINVAL and all errors, at least
 * one; -ENOMEM. *errors is to be zeroed before and conf_errors_done() afterwards. */
int conf_read(const char *path, struct conf **ret_conf, struct conf_errors *errors) WARN_UNUSED;
/* The same from memory. `file` is what errors call it; a section [app] without a name is called as
 * the file is, without folder and ".conf". */
int conf_read_text(struct str text, const char *file, struct conf **ret_conf,
                   struct conf_errors *errors) WARN_UNUSED;
void conf_free(struct conf *c);
/* All defaults, which own nothing; for an application that nobody defined. -ENOMEM. */
int conf_app_init(struct conf_app *ret_app) WARN_UNUSED;
/* The default place; -ENOENT when there is no home, -ENAMETOOLONG. */
int conf_default_path(char *buf, size_t size) WARN_UNUSED;

/* NULL when there is none by that name. */
const struct conf_app *conf_app_find(const struct conf *c, const char *name);
/* Where a key of an application was given, for complaints that come later; the line of its section
 * when it was not. */
unsigned conf_app_line(const struct conf_app *a, const char *key);
unsigned conf_reserve_line(const struct conf_reserve *r, const char *key);
/* The values of a route of an application or of a reservation, which was found good when it was
 * read: 1 or 2. They take 1.5 KiB each, so only their text is kept. */
size_t conf_route(const char *text, struct route ret_routes[2]);
/* All its routes are peer://: it needs no address. */
bool conf_app_is_for_peers(const struct conf_app *a);
/* The KEY=VALUE texts, commands and names that need the system: users and groups that do not exist
 * (or may not be taken, by anybody but root). Adds to errors; 0, -EINVAL or -ENOMEM. */
int conf_check_users(const struct conf *c, struct conf_errors *errors) WARN_UNUSED;

/* What a change of the configuration asks for. */
enum conf_change {
    CONF_CHANGED_POLICY = 1,  /* takes effect at once */
    CONF_CHANGED_ROUTES = 2,  /* routes or listeners */
    CONF_CHANGED_PROCESS = 4, /* workers must be recycled */
    CONF_CHANGED_DAEMON = 8,  /* takes effect when berthd is started again */
};

/* Bits of enum conf_change: 0 when nothing differs. Where they are written is not compared. */
unsigned conf_app_compare(const struct conf_app *a, const struct conf_app *b);
bool conf_app_equal(const struct conf_app *a, const struct conf_app *b);

/* One line for each difference, as `berth reload --dry-run` prints them. Returns the bits of all,
 * or -ENOMEM. */
int conf_diff(const struct conf *old, const struct conf *new, FILE *f) WARN_UNUSED;

/* Writes the definition as text that conf_read_text() reads to an equal value: the keys that were
 * given, or with `all` every key that has a value. -EIO. */
int conf_app_format(const struct conf_app *a, bool all, FILE *f) WARN_UNUSED;
int conf_global_format(const struct conf_global *g, bool all, FILE *f) WARN_UNUSED;
int conf_reserve_format(const struct conf_reserve *r, bool all, FILE *f) WARN_UNUSED;
/* One word, quoted where it must be to be read back as it is. */
void conf_word_format(const char *word, FILE *f);
