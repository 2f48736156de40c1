/* Good configurations: what each key becomes, and what a change of it asks for. */
#include "conf/conf.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "test.h"

static struct conf *read_text(const char *text)
{
    struct conf *c = NULL;
    struct conf_errors errors = {0};
    if (conf_read_text(str_of(text), "/etc/berth/apps.d/blog.conf", &c, &errors) < 0)
        test_fail(__FILE__, __LINE__, text, errors.count ? errors.items[0].sentence : "?", "good");
    conf_errors_done(&errors);
    return c;
}

static const char blog[] = "[app]\nroute = blog.example\nlisten = 0.0.0.0:80\n"
                           "command = /usr/bin/node server.js\n";

TEST("an empty text is the defaults")
{
    struct conf *c = read_text("");
    CHECK_INT(c->app_count, 0);
    CHECK_INT(c->global.threads, 0);
    CHECK_INT(c->global.silence_ms, 3000);
    CHECK_INT(c->global.header_wait_ms, 10000);
    CHECK_INT(c->global.min_rate, 240);
    CHECK_INT(c->global.max_connections, 50000);
    CHECK_INT(c->global.per_source, 1000);
    CHECK(c->global.access_log == NULL);
    CHECK_INT(c->global.metrics.sa.sa_family, AF_UNSPEC);
    CHECK_INT(c->global.unreserved, CONF_UNRESERVED_LOCALHOST);
    conf_free(c);
}

TEST("an application has the file's name and the defaults")
{
    struct conf *c = read_text(blog);
    const struct conf_app *a = conf_app_find(c, "blog");
    CHECK(a != NULL);
    CHECK_INT(a->place.line, 1);
    CHECK_TEXT(a->place.file, "/etc/berth/apps.d/blog.conf");
    CHECK_INT(a->command.count, 2);
    CHECK_TEXT(a->command.items[1], "server.js");
    CHECK(a->command.items[2] == NULL);
    CHECK_INT(a->workers.low, 1);
    CHECK_INT(a->workers.high, 1);
    CHECK_INT(a->start, CONF_START_DEMAND);
    CHECK_INT(a->idle_timeout_ms, 20 * 60000);
    CHECK_INT(a->pause_ms.low, 10000);
    CHECK_INT(a->pause_ms.high, 300000);
    CHECK_INT(a->umask, 022);
    CHECK_INT(a->log_size, 10 << 20);
    CHECK(conf_app_find(c, "shop") == NULL);
    conf_free(c);
}

TEST("every key of an application is read")
{
    struct conf *c = read_text(
        "; a comment\n# and another\n[app shop] # the shop\nroute = shop.example "
        "http://a.example/x/\n"
        "route = tls://b.example\nlisten = 0.0.0.0:80 [::]:80\nlisten = unix:/run/x\n"
        "command = \"/opt/my shop/run\" 'a b' c\\ d \"\\x41\\u00e9\\101\\n\" # not an argument\n"
        "user = shop\ngroup = 33\ndirectory = /srv/shop\n"
        "environment = A=1 \"B=two words\"\nenvironment = C=\numask = 077\nport = 3000 3001\n"
        "proxy = yes\nworkers = 1..8\nstart = always\nstart_timeout = 1min\nidle_timeout = 0\n"
        "patience = 1h 30min\ndrain_timeout=90\nstop_timeout = 1500ms\nready = notify\n"
        "health = /healthz\nhealth_interval = 1s\nhealth_timeout = 2s\nstall_timeout = off\n"
        "watchdog = 30s\nfailures = 3\nfailure_interval = 1h\npause = 1s..2s\n"
        "recycle_after = 29h\nrecycle_at = 03:30 15:30\nrecycle_connections = 1000\n"
        "recycle_memory = 512M\nwatch = server.js lib\nwatch_delay = 1s\nqueue_length = 10\n"
        "queue_full = reset\nconnections = 7\nper_source = 3\nmemory_max = 1G\ncpu_max = 150%\n"
        "tasks_max = 64\nfiles_max = 4096\nlog_size = 1M\nlog_files = 0\n");
    const struct conf_app *a = conf_app_find(c, "shop");
    CHECK_INT(a->routes.count, 3);
    CHECK_TEXT(a->routes.items[1], "http://a.example/x/");
    CHECK_INT(a->listen.count, 3);
    CHECK_INT(addr_port(&a->listen.items[1]), 80);
    CHECK_INT(a->command.count, 4);
    CHECK_TEXT(a->command.items[0], "/opt/my shop/run");
    CHECK_TEXT(a->command.items[1], "a b");
    CHECK_TEXT(a->command.items[2], "c d");
    CHECK_TEXT(a->command.items[3], "A\u00e9A\n");
    CHECK_TEXT(a->user, "shop");
    CHECK_TEXT(a->directory, "/srv/shop");
    CHECK_INT(a->environment.count, 3);
    CHECK_TEXT(a->environment.items[1], "B=two words");
    CHECK_INT(a->umask, 077);
    CHECK_INT(a->ports.items[1], 3001);
    CHECK(a->proxy);
    CHECK_INT(a->workers.low, 1);
    CHECK_INT(a->workers.high, 8);
    CHECK_INT(a->start, CONF_START_ALWAYS);
    CHECK_INT(a->idle_timeout_ms, 0);
    CHECK_INT(a->patience_ms, 5400000);
    CHECK_INT(a->drain_timeout_ms, 90000);
    CHECK_INT(a->stop_timeout_ms, 1500);
    CHECK_INT(a->ready, CONF_READY_NOTIFY);
    CHECK_TEXT(a->health.path, "/healthz");
    CHECK_INT(a->watchdog_ms, 30000);
    CHECK_INT(a->recycle_after_ms, 29 * 3600000);
    CHECK_INT(a->recycle_at.items[0], 210);
    CHECK_INT(a->recycle_memory, 512 << 20);
    CHECK_INT(a->queue_full, CONF_FULL_RESET);
    CHECK_INT(a->cpu_max, 150);
    CHECK_INT(a->files_max, 4096);
    CHECK_INT(a->log_files, 0);
    conf_free(c);
}

TEST("a key knows its line")
{
    struct conf *c = read_text("[app a]\ncommand = a\n\nroute = b\nroute = c\nlog_files = 1\n");
    CHECK_INT(conf_app_line(&c->apps[0], "command"), 2);
    CHECK_INT(conf_app_line(&c->apps[0], "route"), 4);
    CHECK_INT(conf_app_line(&c->apps[0], "log_files"), 6);
    CHECK_INT(conf_app_line(&c->apps[0], "user"), 1);
    conf_free(c);
}

TEST("a route has its values")
{
    struct conf *c = read_text(blog);
    struct route routes[2];
    CHECK_INT(conf_route(c->apps[0].routes.items[0], routes), 2);
    CHECK_INT(routes[0].scheme, SCHEME_HTTP);
    CHECK_TEXT(routes[1].host, "blog.example");
    conf_free(c);
}

TEST("berth and reservations are read")
{
    struct conf *c = read_text("\xef\xbb\xbf[berth]\r\nthreads = 4\r\nmetrics = unix:/run/m\r\n"
                               "access_log = /var/log/a\r\nunreserved = root\r\n"
                               "[reserve http://[::1]:80/]\nuser = shop\ndelegate = yes\n"
                               "status = 404\n[reserve b.example]\nuser=1000");
    CHECK_INT(c->global.threads, 4);
    CHECK_INT(c->global.metrics.sa.sa_family, AF_UNIX);
    CHECK_TEXT(c->global.access_log, "/var/log/a");
    CHECK_INT(c->global.unreserved, CONF_UNRESERVED_ROOT);
    CHECK_INT(c->reserve_count, 2);
    CHECK_TEXT(c->reserves[0].route, "http://[::1]:80/");
    CHECK(c->reserves[0].delegate);
    CHECK_INT(c->reserves[0].status, 404);
    CHECK_INT(c->reserves[1].status, 503);
    CHECK_INT(c->reserves[1].place.line, 10);
    conf_free(c);
}

TEST("without an address an application is started with berthd")
{
    struct conf *c = read_text("[app a]\nroute = a.example\ncommand = a\n");
    CHECK_INT(c->apps[0].start, CONF_START_ALWAYS);
    conf_free(c);
}

TEST("a line goes on behind a backslash, and may be longer than libinih reads")
{
    char text[4096];
    (void)snprintf(text, sizeof text, "[app a]\nroute = a\ncommand = run \\\n   %0*d \\\n  end\n",
                   900, 7);
    struct conf *c = read_text(text);
    CHECK_INT(c->apps[0].command.count, 3);
    CHECK_INT(strlen(c->apps[0].command.items[1]), 900);
    CHECK_TEXT(c->apps[0].command.items[2], "end");
    conf_free(c);
}

TEST("semicolons and hashes inside words are kept")
{
    struct conf *c = read_text("[app a]\nroute = a\ncommand = sh -c \"a ; b # c\" ; x#y '#z'\n");
    CHECK_INT(c->apps[0].command.count, 6);
    CHECK_TEXT(c->apps[0].command.items[2], "a ; b # c");
    CHECK_TEXT(c->apps[0].command.items[3], ";");
    CHECK_TEXT(c->apps[0].command.items[4], "x#y");
    CHECK_TEXT(c->apps[0].command.items[5], "#z");
    conf_free(c);
}

static unsigned change_of(const char *line)
{
    char text[512];
    (void)snprintf(text, sizeof text, "%s%s\n", blog, line);
    struct conf *a = read_text(blog), *b = read_text(text);
    unsigned change = conf_app_compare(&a->apps[0], &b->apps[0]);
    CHECK(conf_app_equal(&a->apps[0], &b->apps[0]) == (change == 0));
    conf_free(a);
    conf_free(b);
    return change;
}

TEST("a change says what it asks for")
{
    CHECK_INT(change_of(""), 0);
    CHECK_INT(change_of("idle_timeout = 1200s"), 0);
    CHECK_INT(change_of("idle_timeout = 5min"), CONF_CHANGED_POLICY);
    CHECK_INT(change_of("route = c.example"), CONF_CHANGED_ROUTES);
    CHECK_INT(change_of("environment = A=1"), CONF_CHANGED_PROCESS);
    CHECK_INT(change_of("user = x\nlisten=[::]:80"), CONF_CHANGED_PROCESS | CONF_CHANGED_ROUTES);
}

TEST("routes that say the same in other letters are the same")
{
    struct conf *a = read_text(blog);
    struct conf *b = read_text("[app]\nroute = BLOG.example\nlisten = *:80\n"
                               "command = '/usr/bin/node'   server.js\n");
    CHECK(conf_app_equal(&a->apps[0], &b->apps[0]));
    conf_free(a);
    conf_free(b);
}

static void check_diff(const char *old, const char *new, const char *want)
{
    struct conf *a = read_text(old), *b = read_text(new);
    char got[2048] = "";
    FILE *f = fmemopen(got, sizeof got, "w");
    CHECK(conf_diff(a, b, f) >= 0);
    (void)fclose(f);
    CHECK_TEXT(got, want);
    conf_free(a);
    conf_free(b);
}

TEST("the difference is one line for each key, application and name")
{
    check_diff("[app a]\nroute=a\ncommand=a\n[app b]\nroute=b\ncommand=b\n"
               "[reserve a.example]\nuser=a\n",
               "[berth]\nsilence=5s\n[app b]\nroute=b\ncommand=b x\nidle_timeout=5min\n[app c]\n"
               "route=c\ncommand=c\nuser=c\n[reserve b.example]\nuser=a\n",
               "~ berth: silence 3s \u2192 5s (takes effect at once)\n"
               "- app a\n"
               "~ app b: command b \u2192 b x (workers are replaced)\n"
               "~ app b: idle_timeout 20min \u2192 5min (takes effect at once)\n"
               "+ app c\n"
               "- reserve a.example\n"
               "+ reserve b.example\n");
    check_diff(blog, blog, "");
}

TEST("what is written is read back to the same")
{
    struct conf *a = read_text(
        "[app a]\nroute = a.example tls://*?alpn=x\nlisten = 0.0.0.0:80 \"unix:/run/a b\"\n"
        "command = \"a b\" '' \"\\\"\\\\\" \\x1b \u00e9 '#' ;\nhealth = 8080\npause = 7s\n"
        "recycle_at = 00:05\ncpu_max = 5%\nmemory_max = 1000\numask = 7\nwatch='x y'\n");
    for (int all = 0; all < 2; all++) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        CHECK_INT(conf_app_format(&a->apps[0], all, f), 0);
        (void)fclose(f);
        struct conf *b = read_text(text);
        CHECK(b && conf_app_equal(&a->apps[0], &b->apps[0]));
        conf_free(b);
        free(text);
    }
    conf_free(a);
}

TEST("100,000 routes of one application are compared as fast as they are read")
{
    char *text = NULL, *same = NULL;
    size_t n = 0, same_n = 0;
    FILE *f = open_memstream(&text, &n), *d = open_memstream(&same, &same_n);
    (void)fputs("[app a]\ncommand = x\nlisten = *:80\n", f);
    for (int i = 0; i < 100000; i++)
        (void)fprintf(f, "route = http://n%d.example/\n", i);
    (void)fclose(f);
    struct conf *a = read_text(text), *b = read_text(text);
    CHECK_INT(a->apps[0].routes.count, 100000);
    CHECK_INT(conf_app_line(&a->apps[0], "route"), 4);
    CHECK_INT(conf_diff(a, b, d), 0);
    (void)fclose(d);
    CHECK_TEXT(same, "");
    conf_free(a);
    conf_free(b);
    free(text);
    free(same);
}

TEST("100,000 applications are read in well under a second")
{
    char *text = NULL;
    size_t n = 0;
    struct timespec before, after;
    FILE *f = open_memstream(&text, &n);
    for (int i = 0; i < 100000; i++)
        (void)fprintf(
            f, "[app a%d]\nroute = http://n%d.example/\nlisten = 0.0.0.0:80\ncommand = x\n", i, i);
    (void)fclose(f);
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    struct conf *c = read_text(text);
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK_INT(c->app_count, 100000);
    CHECK(conf_app_find(c, "a99999") == &c->apps[99999]);
    double seconds =
        (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    (void)printf("# 400,000 lines in %.2f s\n", seconds);
    CHECK(seconds < 60); /* quadratic would take hours; a sanitizer's build is slow */
    conf_free(c);
    free(text);
}
