/* Each kind of mistake: the error names file, line, section and key, and says what would be right.
 */
#include "conf/conf.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "test.h"

#define APP "[app a]\nroute = a.example\ncommand = run\n" /* three lines */

/* One bad text: where the first error is, and a word of its sentence. */
struct mistake {
    const char *text;
    unsigned line;
    const char *section, *key, *words;
};

static const struct mistake mistakes[] = {
    {"threads = 4\n", 1, "", "threads", "outside of a section"},
    {"[berth]\nthreads 4\n", 2, "berth", "", "neither [section], key = value"},
    {"[berth]\n  threads\n", 2, "berth", "", "neither [section]"},
    {"[berth\nthreads = 4\n", 1, "", "", "neither [section]"},
    {"[berth] x\n", 1, "berth]", "", "nothing may follow"},
    {"[berht]\nx = 1\n", 1, "berht", "", "did you mean [berth]"},
    {"[pool x]\n", 1, "pool x", "", "write [berth], [app NAME] or [reserve ROUTE]"},
    {"[berth]\nthread = 4\n", 2, "berth", "thread", "did you mean `threads`"},
    {"[berth]\nidle_timeout = 4\n", 2, "berth", "idle_timeout", "into a section [app NAME]"},
    {"[berth]\nelephants = 4\n", 2, "berth", "elephants", "berth.conf(5)"},
    {"[berth]\n= 4\n", 2, "berth", "", "key before the = is missing"},
    {"[berth]\nthreads: 4\n", 2, "berth", "threads", "not by a colon"},
    {"[berth]\nthreads: a = 4\n", 2, "berth", "threads", "not by a colon"},
    {"[berth]\nthreads =\n", 2, "berth", "threads", "the value is missing"},
    {"[berth]\nthreads = # none\n", 2, "berth", "threads", "the value is missing"},
    {"[berth]\nthreads = 1 2\n", 2, "berth", "threads", "one value"},
    {"[berth]\nthreads = many\n", 2, "berth", "threads", "whole number, or auto"},
    {"[berth]\nthreads = -1\n", 2, "berth", "threads", "whole number"},
    {"[berth]\nthreads = 1000\n", 2, "berth", "threads", "write 0 to 256"},
    {"[berth]\nthreads = 99999999999999999999\n", 2, "berth", "threads", "out of range"},
    {"[berth]\nthreads = 1\n\nthreads = 1\n", 4, "berth", "threads", "given once"},
    {"[berth]\nthreads = 1\n[berth]\nthreads = 2\n", 4, "berth", "threads", "another section"},
    {"[berth]\nsilence = 3 apples\n", 2, "berth", "silence", "500ms, 30s"},
    {"[berth]\nsilence = 3m\n", 2, "berth", "silence", "20min"},
    {"[berth]\nsilence = 2d\n", 2, "berth", "silence", "write 10ms to 1d"},
    {"[berth]\nsilence = off\n", 2, "berth", "silence", "is not understood"},
    {"[berth]\nunreserved = nobody\n", 2, "berth", "unreserved", "localhost, anyone, root"},
    {"[berth]\naccess_log = log/a\n", 2, "berth", "access_log", "from the root"},
    {"[berth]\nmetrics = 9180\n", 2, "berth", "metrics", "127.0.0.1:9180"},
    {APP "proxy = maybe\n", 4, "app a", "proxy", "yes or no"},
    {APP "umask = 8\n", 4, "app a", "umask", "octal"},
    {APP "umask = 7777\n", 4, "app a", "umask", "octal"},
    {APP "workers = 8..2\n", 4, "app a", "workers", "smaller value"},
    {APP "workers = 0\n", 4, "app a", "workers", "write 1 to 128"},
    {APP "workers = 1..\n", 4, "app a", "workers", "1..8"},
    {APP "pause = 5min..10s\n", 4, "app a", "pause", "smaller value"},
    {APP "recycle_memory = 5X\n", 4, "app a", "recycle_memory", "64K, 10M"},
    {APP "log_size = 1K\n", 4, "app a", "log_size", "write 4K to 1T"},
    {APP "recycle_at = 24:00\n", 4, "app a", "recycle_at", "03:30"},
    {APP "recycle_at = 3:5\n", 4, "app a", "recycle_at", "03:30"},
    {APP "port = 0\n", 4, "app a", "port", "1 to 65535"},
    {APP "port = 65536\n", 4, "app a", "port", "1 to 65535"},
    {APP "cpu_max = 2\n", 4, "app a", "cpu_max", "150%"},
    {APP "health = healthz\n", 4, "app a", "health", "/healthz, or a port"},
    {APP "ready = probe\n", 4, "app a", "ready", "add health"},
    {APP "health = /h\nhealth_timeout = 1s\n", 5, "app a", "health_timeout", "shorter"},
    {APP "user = a b\n", 4, "app a", "user", "one value"},
    {APP "user = -x\n", 4, "app a", "user", "cannot be a name"},
    {APP "directory = ~/x\n", 4, "app a", "directory", "from the root"},
    {APP "environment = 1A=b\n", 4, "app a", "environment", "KEY=VALUE"},
    {APP "environment = A=1 b\n", 4, "app a", "environment", "in quotes"},
    {APP "route = nohost:x\n", 4, "app a", "route", "port"},
    {APP "route =\n", 4, "app a", "route", "missing"},
    {APP "listen = 80\n", 4, "app a", "listen", "0.0.0.0:80"},
    {APP "listen = *:0\n", 4, "app a", "listen", "port 0"},
    {APP "listen = unix:x\n", 4, "app a", "listen", "from the root"},
    {APP "ready = probe\nhealth = x\n", 5, "app a", "health", "/healthz"},
    {APP "start = demand\n", 4, "app a", "start", "without an address"},
    {APP "start = never\n", 4, "app a", "start", "demand, always, manual"},
    {APP "command = again\n", 4, "app a", "command", "given once"},
    {"[app a]\nroute = a\n", 1, "app a", "command", "missing"},
    {"[app a]\ncommand = a\n", 1, "app a", "route", "missing"},
    {"[app a]\nroute = a\ncommand =\n", 3, "app a", "command", "is empty"},
    {"[app a]\nroute = a\ncommand = ''\n", 3, "app a", "command", "is empty"},
    {"[app a]\nroute = a\ncommand = a \"b\n", 3, "app a", "command", "is not closed"},
    {"[app a]\nroute = a\ncommand = a 'b\n", 3, "app a", "command", "is not closed"},
    {"[app a]\nroute = a\ncommand = a \\q\n", 3, "app a", "command", "\\\\"},
    {"[app a]\nroute = a\ncommand = a \\x00\n", 3, "app a", "command", "NUL"},
    {"[app a]\nroute = a\ncommand = a \\xff\n", 3, "app a", "command", "character itself"},
    {"[app a]\nroute = a\ncommand = a \\xg\n", 3, "app a", "command", "two hex digits"},
    {"[app a]\nroute = a\ncommand = a \\ud800\n", 3, "app a", "command", "no such character"},
    {"[app a/b]\n", 1, "app a/b", "", "letters, digits"},
    {"[app]\n", 1, "app", "", "[app NAME]"},
    {APP "[app a]\nx = 1\n", 4, "app a", "", "test/berth.conf:1"},
    {APP "listen = *:80\n[app b]\nroute=b\nroute = A.example\nlisten = 127.0.0.1:80\ncommand=b\n",
     7, "app b", "route", "application a already (test/berth.conf:1)"},
    {APP "listen = 127.0.0.1:80\n[app b]\nroute=http://a.example:80/\nlisten = *:80\ncommand=b\n",
     6, "app b", "route", "already"},
    {APP "listen = unix:/x\n[app b]\nroute=a.example\nlisten = unix:/x\ncommand=b\n", 6, "app b",
     "route", "already"},
    {"[reserve]\n", 1, "reserve", "", "[reserve http://shop.example/]"},
    {"[reserve x://y]\n", 1, "reserve x://y", "", "scheme"},
    {"[reserve a]\nstatus = 503\n", 1, "reserve a", "user", "missing"},
    {"[reserve a]\nuser = a\nstatus = 200\n", 3, "reserve a", "status", "400 to 599"},
    {"[reserve a]\nuser=a\n[reserve http://A/]\nuser=b\n", 3, "reserve http://A/", "",
     "reserved already, at test/berth.conf:1"},
    {"[berth]\nthreads = \x01\n", 2, "berth", "", "control character"},
    {"[berth]\n# caf\xe9\n", 2, "berth", "", "UTF-8"},
    {"[berth]\n# \xc0\xaf\n", 2, "berth", "", "UTF-8"},
    {"[berth]\nx = \xed\xa0\x80\n", 2, "berth", "", "UTF-8"},
};

static void check_mistake(const struct mistake *m)
{
    struct conf *c = NULL;
    struct conf_errors e = {0};
    int r = conf_read_text(str_of(m->text), "test/berth.conf", &c, &e);
    if (r != -EINVAL || e.count != 1)
        test_fail(__FILE__, __LINE__, m->text, e.count > 1 ? "more errors" : "no error", "one");
    for (size_t i = 0; i < e.count; i++) {
        const struct conf_error *got = &e.items[i];
        CHECK_TEXT(got->file, "test/berth.conf");
        CHECK_INT(got->line, m->line);
        CHECK_TEXT(got->section, m->section);
        CHECK_TEXT(got->key, m->key);
        if (!strstr(got->sentence, m->words))
            test_fail(__FILE__, __LINE__, m->text, got->sentence, m->words);
    }
    CHECK(c == NULL);
    conf_errors_done(&e);
}

TEST("each mistake has its line, section, key and remedy")
{
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
        check_mistake(&mistakes[i]);
}

TEST("a NUL byte is an error of its line")
{
    struct conf *c = NULL;
    struct conf_errors e = {0};
    static const char text[] = "[berth]\nthreads = 1\0 2\nsilence = x\n";
    CHECK_INT(conf_read_text(STR(text), "f", &c, &e), -EINVAL);
    CHECK_INT(e.count, 2);
    CHECK_INT(e.items[0].line, 2);
    CHECK(strstr(e.items[0].sentence, "NUL") != NULL);
    CHECK_INT(e.items[1].line, 3);
    conf_errors_done(&e);
}

TEST("a line that is too long is an error, and the next one is read")
{
    struct conf *c = NULL;
    struct conf_errors e = {0};
    char *text = NULL;
    CHECK(asprintf(&text, "[berth]\nthreads = %0*d\nsilence = x\n", CONF_LINE_MAX, 1) > 0);
    CHECK_INT(conf_read_text(str_of(text), "f", &c, &e), -EINVAL);
    CHECK_INT(e.count, 2);
    CHECK_INT(e.items[0].line, 2);
    CHECK(strstr(e.items[0].sentence, "longer than") != NULL);
    CHECK_INT(e.items[1].line, 3);
    conf_errors_done(&e);
    free(text);
}

TEST("all errors are given, and past a thousand they are counted")
{
    struct conf *c = NULL;
    struct conf_errors e = {0};
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    (void)fputs("[berth]\n", f);
    for (int i = 0; i < 1500; i++)
        (void)fputs("nonsense = 1\n", f);
    (void)fclose(f);
    CHECK_INT(conf_read_text(str_of(text), "f", &c, &e), -EINVAL);
    CHECK_INT(e.count, CONF_ERROR_MAX);
    CHECK_INT(e.items[999].line, 1001);
    CHECK_INT(e.dropped, 500);
    conf_errors_done(&e);
    free(text);
}

TEST("an error is one line of text")
{
    struct conf *c = NULL;
    struct conf_errors e = {0};
    char got[512] = "";
    FILE *f = fmemopen(got, sizeof got, "w");
    CHECK_INT(conf_read_text(STR("[berth]\nthreds = 1\n"), "/etc/b.conf", &c, &e), -EINVAL);
    conf_error_print(&e.items[0], f);
    (void)fclose(f);
    CHECK_TEXT(got,
               "/etc/b.conf:2: [berth] threds: there is no such key; did you mean `threads`?\n");
    conf_errors_done(&e);
}

/* Files */

struct folder {
    char path[64];
};

static void put(const struct folder *d, const char *name, const char *text)
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", d->path, name);
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    if (f) {
        (void)fputs(text, f);
        (void)fclose(f);
    }
}

static struct folder folder_make(void)
{
    struct folder d = {"/tmp/berth-conf-XXXXXX"};
    char path[160];
    CHECK(mkdtemp(d.path) != NULL);
    (void)snprintf(path, sizeof path, "%s/apps.d", d.path);
    CHECK(mkdir(path, 0700) == 0);
    return d;
}

static void folder_drop(const struct folder *d)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", d->path);
    CHECK(system(command) == 0);
}

TEST("a folder is berth.conf and then apps.d in the order of names")
{
    struct folder d = folder_make();
    struct conf *c = NULL;
    struct conf_errors e = {0};
    put(&d, "berth.conf", "[berth]\nthreads = 2\n[app first]\nroute = f\ncommand = f\n");
    put(&d, "apps.d/b.conf", "[app]\nroute = b\ncommand = b\n");
    put(&d, "apps.d/a.conf", "[app]\nroute = a\ncommand = a\n");
    put(&d, "apps.d/.hidden.conf", "nonsense\n");
    put(&d, "apps.d/note.txt", "nonsense\n");
    CHECK_INT(conf_read(d.path, &c, &e), 0);
    CHECK_INT(c->app_count, 3);
    CHECK_INT(c->files.count, 3);
    CHECK_TEXT(c->apps[0].name, "first");
    CHECK_TEXT(c->apps[1].name, "a");
    CHECK_TEXT(c->apps[2].name, "b");
    conf_free(c);
    folder_drop(&d);
}

TEST("errors of all files come together")
{
    struct folder d = folder_make();
    struct conf *c = NULL;
    struct conf_errors e = {0};
    put(&d, "berth.conf", "[berth]\nthreads = x\n");
    put(&d, "apps.d/b.conf", "[app]\nroute = b\ncommand = b\nworkers = x\n");
    CHECK_INT(conf_read(d.path, &c, &e), -EINVAL);
    CHECK_INT(e.count, 2);
    CHECK(strstr(e.items[0].file, "/berth.conf") != NULL);
    CHECK(strstr(e.items[1].file, "/apps.d/b.conf") != NULL);
    CHECK_TEXT(e.items[1].section, "app");
    CHECK_INT(e.items[1].line, 4);
    conf_errors_done(&e);
    folder_drop(&d);
}

TEST("a file that cannot be read is an error, an empty folder is none")
{
    struct folder d = folder_make();
    struct conf *c = NULL;
    struct conf_errors e = {0};
    char path[160];
    CHECK_INT(conf_read(d.path, &c, &e), 0);
    CHECK_INT(c->app_count, 0);
    conf_free(c);
    (void)snprintf(path, sizeof path, "%s/berth.conf", d.path);
    CHECK_INT(conf_read(path, &c, &e), -EINVAL);
    CHECK_INT(e.items[0].line, 0);
    CHECK(strstr(e.items[0].sentence, "No such file") != NULL);
    CHECK(mkdir(path, 0700) == 0);
    conf_errors_done(&e);
    CHECK_INT(conf_read(d.path, &c, &e), -EINVAL);
    CHECK(strstr(e.items[0].sentence, "Is a directory") != NULL);
    conf_errors_done(&e);
    folder_drop(&d);
}

TEST("a file that everybody may write is not obeyed")
{
    struct folder d = folder_make();
    struct conf *c = NULL;
    struct conf_errors e = {0};
    char path[160];
    put(&d, "berth.conf", "[berth]\nthreads = 2\n");
    (void)snprintf(path, sizeof path, "%s/berth.conf", d.path);
    CHECK(chmod(path, 0666) == 0);
    CHECK_INT(conf_read(d.path, &c, &e), -EINVAL);
    CHECK(e.count == 1 && strstr(e.items[0].sentence, "everybody may write") != NULL);
    conf_errors_done(&e);
    CHECK(chmod(path, 0644) == 0);
    CHECK_INT(conf_read(d.path, &c, &e), 0);
    conf_free(c);
    folder_drop(&d);
}

TEST("a user that does not exist is no error of reading, but of the check")
{
    struct conf *c = NULL;
    struct conf_errors e = {0};
    CHECK_INT(conf_read_text(STR(APP "user = no-such-user\ngroup = no-such-group\n"
                                     "[reserve x]\nuser = no-such-user\n"),
                             "f", &c, &e),
              0);
    CHECK_INT(conf_check_users(c, &e), -EINVAL);
    CHECK(e.count >= 3);
    CHECK_TEXT(e.items[0].key, "user");
    CHECK_TEXT(e.items[0].section, "app a");
    CHECK_INT(e.items[0].line, 4);
    CHECK_TEXT(e.items[e.count - 2].key, "group");
    CHECK_INT(e.items[e.count - 2].line, 5);
    CHECK_INT(e.items[e.count - 1].line, 7);
    conf_errors_done(&e);
    conf_free(c);
}
