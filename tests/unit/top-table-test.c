#include "cli/top-table.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int read_text(const char *text, double at_ms, struct top_table *t)
{
    json_t *j = json_loads(text, 0, NULL);
    CHECK(j != NULL);
    int r = top_read(j, at_ms, 1000000, t);
    json_decref(j);
    return r;
}

#define POOL(connections, refused, cpu1, cpu2)                                                     \
    "{\"apps\": [{\"name\": \"shop\", \"pid\": 7, \"pool\": {\"state\": \"running\", \"max\": 4, " \
    "\"parked\": 3, \"refused\": " #refused ", \"workers\": ["                                     \
    "{\"pid\": 900000001, \"open\": 5, \"memory\": 1048576, \"cpu_ms\": " #cpu1                    \
    ", \"started_ms\": 400000}, "                                                                  \
    "{\"pid\": 900000002, \"open\": 2, \"memory\": 524288, \"cpu_ms\": " #cpu2                     \
    ", \"started_ms\": 940000}]}, "                                                                \
    "\"binds\": [{\"waiting\": 99, \"routes\": [{\"connections\": 10}, "                           \
    "{\"connections\": " #connections "}]}]}]}"

TEST("a pool's row adds its workers up")
{
    struct top_table t;
    char buf[TOP_TEXT_MAX];
    CHECK_INT(read_text(POOL(20, 5, 100, 10), 0, &t), 0);
    CHECK_INT(t.count, 1);
    const struct top_row *r = &t.rows[0];
    CHECK_TEXT(top_text(r, TOP_NAME, buf), "shop");
    CHECK_TEXT(top_text(r, TOP_STATE, buf), "running");
    CHECK_TEXT(top_text(r, TOP_WORKERS, buf), "2/4");
    CHECK_TEXT(top_text(r, TOP_OPEN, buf), "7");
    CHECK_TEXT(top_text(r, TOP_WAITING, buf), "3");
    CHECK_TEXT(top_text(r, TOP_MEMORY, buf), "1.5M");
    CHECK_TEXT(top_text(r, TOP_AGE, buf), "10m00s");
    CHECK_TEXT(top_text(r, TOP_RATE, buf), "-");
    CHECK_TEXT(top_text(r, TOP_CPU, buf), "-");
    top_free(&t);
}

TEST("rates come from two reports")
{
    struct top_table before, now;
    char buf[TOP_TEXT_MAX];
    CHECK_INT(read_text(POOL(20, 5, 100, 10), 1000, &before), 0);
    CHECK_INT(read_text(POOL(520, 6, 1100, 260), 3000, &now), 0);
    top_rates(&now, &before);
    CHECK_TEXT(top_text(&now.rows[0], TOP_RATE, buf), "250.0");
    CHECK_TEXT(top_text(&now.rows[0], TOP_REFUSED, buf), "0.5");
    CHECK_TEXT(top_text(&now.rows[0], TOP_CPU, buf), "62.5");
    CHECK_TEXT(top_text(&now.total, TOP_RATE, buf), "250.0");
    top_free(&before);
    top_free(&now);
}

TEST("a counter that began anew has no rate")
{
    struct top_table before, now;
    char buf[TOP_TEXT_MAX];
    CHECK_INT(read_text(POOL(520, 6, 100, 10), 1000, &before), 0);
    CHECK_INT(read_text(POOL(0, 0, 5, 10), 2000, &now), 0);
    top_rates(&now, &before);
    CHECK_TEXT(top_text(&now.rows[0], TOP_RATE, buf), "-");
    CHECK_TEXT(top_text(&now.rows[0], TOP_REFUSED, buf), "-");
    CHECK_TEXT(top_text(&now.rows[0], TOP_CPU, buf), "0.0");
    top_free(&before);
    top_free(&now);
}

TEST("what a report does not say is unknown, not nothing")
{
    struct top_table t;
    char buf[TOP_TEXT_MAX];
    CHECK_INT(read_text("{\"apps\": [{}, {\"name\": \"x\\u001b[2J\", \"pool\": {}}]}", 0, &t), 0);
    CHECK_INT(t.count, 2);
    CHECK_TEXT(top_text(&t.rows[0], TOP_NAME, buf), "?");
    CHECK_TEXT(top_text(&t.rows[0], TOP_STATE, buf), "started");
    CHECK_TEXT(top_text(&t.rows[0], TOP_OPEN, buf), "-");
    CHECK_TEXT(top_text(&t.rows[0], TOP_MEMORY, buf), "-");
    CHECK_TEXT(top_text(&t.rows[1], TOP_NAME, buf), "x?[2J");
    CHECK_TEXT(top_text(&t.rows[1], TOP_WORKERS, buf), "0");
    top_free(&t);
    CHECK_INT(read_text("{\"apps\": 1}", 0, &t), -EPROTO);
    CHECK_INT(read_text("[]", 0, &t), -EPROTO);
}

TEST("a program's own processes are looked up")
{
    struct top_table t;
    char text[256], buf[TOP_TEXT_MAX];
    (void)snprintf(text, sizeof text,
                   "{\"apps\": [{\"name\": \"a\", \"pid\": %d, \"binds\": [{\"waiting\": 1, "
                   "\"listening\": true, \"pids\": [%d]}, {\"waiting\": 2, \"pids\": [%d]}]}]}",
                   getpid(), getpid(), getpid());
    CHECK_INT(read_text(text, 0, &t), 0);
    CHECK_TEXT(top_text(&t.rows[0], TOP_STATE, buf), "running");
    CHECK_TEXT(top_text(&t.rows[0], TOP_WORKERS, buf), "1");
    CHECK_TEXT(top_text(&t.rows[0], TOP_WAITING, buf), "3");
    CHECK(t.rows[0].values[TOP_MEMORY] > 100000);
    CHECK(t.rows[0].values[TOP_AGE] >= 0 && t.rows[0].values[TOP_AGE] < 600000);
    top_free(&t);
}

TEST("rows are sorted by any column, both ways")
{
    struct top_table t;
    CHECK_INT(read_text("{\"apps\": [{\"name\": \"b\", \"binds\": [{\"waiting\": 1}]}, "
                        "{\"name\": \"a\", \"binds\": [{\"waiting\": 5}]}, "
                        "{\"name\": \"c\", \"binds\": [{\"waiting\": 1}]}]}",
                        0, &t),
              0);
    top_sort(&t, TOP_NAME, false);
    CHECK_TEXT(t.rows[0].name, "a");
    top_sort(&t, TOP_NAME, true);
    CHECK_TEXT(t.rows[0].name, "c");
    top_sort(&t, TOP_WAITING, false);
    CHECK_TEXT(t.rows[0].name, "a");
    CHECK_TEXT(t.rows[1].name, "b");
    CHECK_TEXT(t.rows[2].name, "c");
    top_free(&t);
}
