/* The keys of each section: name, type, where the value goes, limits, default and what it means.
 * Whoever adds a key adds a line here and a field in conf.h, and nothing else. */
#include "conf/schema.h"

#include <string.h>

#include "conf/conf.h"

static const char *const unreserved_choices[] = {"localhost", "anyone", "root", NULL};
static const char *const start_choices[] = {"demand", "always", "manual", NULL};
static const char *const ready_choices[] = {"listen", "notify", "probe", NULL};
static const char *const send_proxy_choices[] = {"off", "v1", "v2", NULL};
static const char *const full_choices[] = {"503", "reset", NULL};

#define SECONDS(n) ((uint64_t)(n)*1000)
#define DAYS(n)    (SECONDS(86400) * (n))
#define TIB        ((uint64_t)1 << 40)
#define MANY       1000000000u
#define AT(field)  offsetof(OWNER, field)
#define NOW        CONF_CHANGED_POLICY
#define ROUTES     CONF_CHANGED_ROUTES
#define WORKERS    CONF_CHANGED_PROCESS
#define DAEMON     CONF_CHANGED_DAEMON

/* name, type, field, min, max, zero, choices, default, change, help */
#define OWNER struct conf_global
static const struct conf_key berth_keys[] = {
    {"threads", CONF_COUNT, AT(threads), 0, 256, "auto", NULL, "auto", DAEMON,
     "threads that look at connections; auto: one for each core"},
    {"silence", CONF_DURATION, AT(silence_ms), 10, DAYS(1), NULL, NULL, "3s", NOW,
     "how long a client may send nothing before it is taken for one that waits for the server"},
    {"header_wait", CONF_DURATION, AT(header_wait_ms), 10, DAYS(1), NULL, NULL, "10s", NOW,
     "how long a client that has begun may take until its name is known"},
    {"min_rate", CONF_COUNT, AT(min_rate), 0, MANY, "off", NULL, "240", NOW,
     "bytes a second that a client must send until its name is known"},
    {"max_connections", CONF_COUNT, AT(max_connections), 1, 10000000, NULL, NULL, "50000", NOW,
     "connections that may be looked at or wait at the same time"},
    {"per_source", CONF_COUNT, AT(per_source), 0, 10000000, "off", NULL, "1000", NOW,
     "of these, how many may come from one address"},
    {"access_log", CONF_PATH, AT(access_log), 0, 0, "off", NULL, "off", NOW,
     "file with one line for each connection"},
    {"refusal_log", CONF_PATH, AT(refusal_log), 0, 0, "off", NULL, "off", NOW,
     "file with one line for each connection that was refused, with its reason"},
    {"metrics", CONF_ADDR, AT(metrics), 0, 0, "off", NULL, "off", NOW,
     "address where Prometheus finds the counters: unix:/run/berth/metrics or 127.0.0.1:9180"},
    {"rendezvous", CONF_SERVERS, AT(rendezvous), 0, 0, NULL, NULL, NULL, NOW,
     "rendezvous servers for `berth publish`, `berth dial` and the like, where --rendezvous and "
     "BERTH_RENDEZVOUS name none; the user's own berth.conf counts before the system's"},
    {"unreserved", CONF_CHOICE, AT(unreserved), 0, 0, NULL, unreserved_choices, "localhost", NOW,
     "who may take a name that nobody reserved: anyone, root, or anyone below localhost only"},
};
#undef OWNER

#define OWNER struct conf_app
static const struct conf_key app_keys[] = {
    {"route", CONF_ROUTES, AT(routes), 0, 0, NULL, NULL, NULL, ROUTES,
     "what the application answers to: a host, or a route as in berth-route(7)"},
    {"listen", CONF_ADDRS, AT(listen), 0, 0, NULL, NULL, NULL, ROUTES,
     "shared addresses where its connections arrive: 0.0.0.0:80, [::]:80, unix:/path"},
    {"command", CONF_WORDS, AT(command), 0, 0, NULL, NULL, NULL, WORKERS,
     "the program and its arguments; quotes and backslashes as in systemd, no shell"},
    {"to", CONF_TARGET, AT(to), 0, 0, NULL, NULL, NULL, WORKERS,
     "instead of a command: the address that connections are passed on to: 10.0.0.5:3000, "
     "db.example:5432, unix:/path"},
    {"send_proxy", CONF_CHOICE, AT(send_proxy), 0, 0, NULL, send_proxy_choices, "off", WORKERS,
     "with to: a PROXY header of this version in front of each connection says who the client is"},
    {"user", CONF_NAME, AT(user), 0, 0, NULL, NULL, NULL, WORKERS, "user of the workers"},
    {"group", CONF_NAME, AT(group), 0, 0, NULL, NULL, NULL, WORKERS,
     "group of the workers; without it, the user's"},
    {"directory", CONF_PATH, AT(directory), 0, 0, NULL, NULL, NULL, WORKERS,
     "folder in which the workers are started"},
    {"environment", CONF_ENV, AT(environment), 0, 0, NULL, NULL, NULL, WORKERS,
     "variables for the workers: KEY=VALUE"},
    {"umask", CONF_MODE, AT(umask), 0, 0777, NULL, NULL, "0022", WORKERS,
     "permissions that new files of the workers do not get, in octal"},
    {"port", CONF_PORTS, AT(ports), 1, 65535, NULL, NULL, NULL, WORKERS,
     "the program's own ports that are shared, when it opens others, too"},
    {"proxy", CONF_BOOL, AT(proxy), 0, 0, NULL, NULL, "no", ROUTES,
     "connections begin with a PROXY header, from a load balancer"},
    {"pass_sockets", CONF_BOOL, AT(pass_sockets), 0, 0, NULL, NULL, "no", WORKERS,
     "give the listening sockets as LISTEN_FDS, as systemd does, to a program that takes them so"},
    {"overlap", CONF_BOOL, AT(overlap), 0, 0, NULL, NULL, "yes", NOW,
     "a new worker is ready before the old one ends; no: for a program that must not run twice, "
     "connections wait meanwhile"},
    {"workers", CONF_RANGE, AT(workers), 1, 128, NULL, NULL, "1", NOW,
     "how many processes: 2, or 1..8 for as many as are needed"},
    {"start", CONF_CHOICE, AT(start), 0, 0, NULL, start_choices, "demand", NOW,
     "when it is started: by the first connection, with berthd, or by `berth start`; "
     "without listen: always"},
    {"start_timeout", CONF_DURATION, AT(start_timeout_ms), 0, DAYS(1), "off", NULL, "90s", NOW,
     "how long a worker may take to become ready"},
    {"idle_timeout", CONF_DURATION, AT(idle_timeout_ms), 0, DAYS(365), "off", NULL, "20min", NOW,
     "how long workers stay without any open connection, when started on demand"},
    {"patience", CONF_DURATION, AT(patience_ms), 0, DAYS(1), "off", NULL, "30s", NOW,
     "how long an HTTP client waits for a worker before it is told to come again"},
    {"drain_timeout", CONF_DURATION, AT(drain_timeout_ms), 0, DAYS(365), NULL, NULL, "90s", NOW,
     "how long a worker that is replaced may go on with its open connections"},
    {"stop_timeout", CONF_DURATION, AT(stop_timeout_ms), 0, DAYS(1), NULL, NULL, "10s", NOW,
     "how long a worker has between TERM and KILL"},
    {"ready", CONF_CHOICE, AT(ready), 0, 0, NULL, ready_choices, "listen", NOW,
     "when a worker counts as ready: it listens, says READY=1 to NOTIFY_SOCKET, or its health is "
     "good"},
    {"health", CONF_HEALTH, AT(health), 0, 0, "off", NULL, "off", NOW,
     "what is asked to see whether a worker is well: an HTTP path as /healthz, or a port"},
    {"health_interval", CONF_DURATION, AT(health_interval_ms), 10, DAYS(1), NULL, NULL, "30s", NOW,
     "how often it is asked"},
    {"health_timeout", CONF_DURATION, AT(health_timeout_ms), 10, DAYS(1), NULL, NULL, "90s", NOW,
     "how long it may give no good answer before it is replaced"},
    {"stall_timeout", CONF_DURATION, AT(stall_timeout_ms), 0, DAYS(1), "off", NULL, "90s", NOW,
     "how long a worker may leave connections in its queue before it is replaced"},
    {"watchdog", CONF_DURATION, AT(watchdog_ms), 0, DAYS(1), "off", NULL, "off", WORKERS,
     "how often a worker must say WATCHDOG=1; it gets WATCHDOG_USEC"},
    {"failures", CONF_COUNT, AT(failures), 0, 1000, "off", NULL, "5", NOW,
     "so many failures within failure_interval pause the application"},
    {"failure_interval", CONF_DURATION, AT(failure_interval_ms), SECONDS(1), DAYS(30), NULL, NULL,
     "5min", NOW, "the time in which failures are counted"},
    {"pause", CONF_SPAN, AT(pause_ms), 100, DAYS(30), NULL, NULL, "10s..5min", NOW,
     "how long the first pause lasts, and the longest: each doubles the one before"},
    {"recycle_after", CONF_DURATION, AT(recycle_after_ms), 0, DAYS(365), "off", NULL, "off", NOW,
     "age at which a worker is replaced"},
    {"recycle_at", CONF_TIMES, AT(recycle_at), 0, 0, NULL, NULL, NULL, NOW,
     "times of the day at which workers are replaced: 03:30"},
    {"recycle_connections", CONF_COUNT, AT(recycle_connections), 0, MANY, "off", NULL, "off", NOW,
     "number of connections after which a worker is replaced"},
    {"recycle_memory", CONF_SIZE, AT(recycle_memory), 0, 1024 * TIB, "off", NULL, "off", NOW,
     "memory above which a worker is replaced: 512M"},
    {"watch", CONF_FILES, AT(watch), 0, 0, NULL, NULL, NULL, NOW,
     "files and folders whose change replaces the workers"},
    {"watch_delay", CONF_DURATION, AT(watch_delay_ms), 0, DAYS(1), NULL, NULL, "500ms", NOW,
     "how long they must have been quiet"},
    {"queue_length", CONF_COUNT, AT(queue_length), 1, 10000000, NULL, NULL, "1000", NOW,
     "connections that may wait for a worker"},
    {"queue_full", CONF_CHOICE, AT(queue_full), 0, 0, NULL, full_choices, "503", NOW,
     "what happens to more: an answer (HTTP; others are closed), or a TCP reset"},
    {"connections", CONF_COUNT, AT(connections), 0, 10000000, "off", NULL, "off", NOW,
     "open connections of all workers together; more wait"},
    {"per_source", CONF_COUNT, AT(per_source), 0, 10000000, "off", NULL, "off", NOW,
     "of these, how many may come from one address"},
    {"memory_max", CONF_SIZE, AT(memory_max), 0, 1024 * TIB, "off", NULL, "off", NOW,
     "memory that the application may use: 512M"},
    {"cpu_max", CONF_PERCENT, AT(cpu_max), 0, 102400, "off", NULL, "off", NOW,
     "CPU time that the application may use: 150% is one and a half CPUs"},
    {"tasks_max", CONF_COUNT, AT(tasks_max), 0, 4194304, "off", NULL, "off", NOW,
     "processes and threads that the application may have"},
    {"files_max", CONF_COUNT, AT(files_max), 0, 1073741816, "off", NULL, "off", WORKERS,
     "descriptors that a process of the application may have open"},
    {"log_size", CONF_SIZE, AT(log_size), 4096, TIB, NULL, NULL, "10M", NOW,
     "size at which the file with the workers' output is rotated"},
    {"log_files", CONF_COUNT, AT(log_files), 0, 1000, NULL, NULL, "5", NOW,
     "rotated files that are kept"},
};
#undef OWNER

#define OWNER struct conf_reserve
static const struct conf_key reserve_keys[] = {
    {"user", CONF_NAME, AT(user), 0, 0, NULL, NULL, NULL, NOW, "whose name it is"},
    {"delegate", CONF_BOOL, AT(delegate), 0, 0, NULL, NULL, "no", NOW,
     "the user may give away parts of it"},
    {"status", CONF_COUNT, AT(status), 400, 599, NULL, NULL, "503", NOW,
     "HTTP status of the answer while nobody serves it"},
};
#undef OWNER

static const struct conf_schema schemas[CONF_SECTIONS] = {
    [CONF_SECTION_BERTH] = {"berth", NULL, "berth itself", berth_keys,
                            sizeof berth_keys / sizeof *berth_keys,
                            offsetof(struct conf_global, place)},
    [CONF_SECTION_APP] = {"app", "NAME", "An application", app_keys,
                          sizeof app_keys / sizeof *app_keys, offsetof(struct conf_app, place)},
    [CONF_SECTION_RESERVE] = {"reserve", "ROUTE", "A name that belongs to a user", reserve_keys,
                              sizeof reserve_keys / sizeof *reserve_keys,
                              offsetof(struct conf_reserve, place)},
};
_Static_assert(sizeof app_keys / sizeof *app_keys <= 64, "struct conf_place has 64 bits");

const struct conf_schema *conf_schema(enum conf_section section)
{
    return &schemas[section];
}

const struct conf_key *conf_key_find(const struct conf_schema *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->keys[i].name, name) == 0)
            return &s->keys[i];
    return NULL;
}
