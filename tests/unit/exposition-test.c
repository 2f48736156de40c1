#include "berthd/exposition.h"
#include "test.h"

#include <stdlib.h>

static void add(struct exposition *e, const char *app, const char *route, double value)
{
    exposition_add(e, (struct exposition_label[]){{"app", app}, {"route", route}, {NULL, NULL}},
                   value);
}

static void check_finish(struct exposition *e, const char *want)
{
    char *text = exposition_finish(e);
    CHECK_TEXT(text, want);
    free(text);
}

TEST("a family has its help, its type and its samples")
{
    struct exposition e = {.text = NULL};
    exposition_one(&e, "berth_up", "gauge", "Whether it is.", 1);
    exposition_begin(&e, "berth_x_total", "counter", "All x.");
    add(&e, "shop", "http://b/", 3);
    add(&e, "shop", "http://a/", 123456789012345);
    exposition_end(&e);
    check_finish(&e, "# HELP berth_up Whether it is.\n"
                     "# TYPE berth_up gauge\n"
                     "berth_up 1\n"
                     "# HELP berth_x_total All x.\n"
                     "# TYPE berth_x_total counter\n"
                     "berth_x_total{app=\"shop\",route=\"http://a/\"} 123456789012345\n"
                     "berth_x_total{app=\"shop\",route=\"http://b/\"} 3\n");
}

TEST("a series stands there once, with the sum of what came for it")
{
    struct exposition e = {.text = NULL};
    exposition_begin(&e, "x", "gauge", "X.");
    add(&e, "a", "r", 1);
    add(&e, "b", "r", 10);
    add(&e, "a", "r", 2);
    add(&e, "a", "r", 4);
    exposition_end(&e);
    check_finish(&e, "# HELP x X.\n# TYPE x gauge\n"
                     "x{app=\"a\",route=\"r\"} 7\nx{app=\"b\",route=\"r\"} 10\n");
}

TEST("a family without samples is its two lines")
{
    struct exposition e = {.text = NULL};
    exposition_begin(&e, "x", "gauge", "X.");
    exposition_end(&e);
    check_finish(&e, "# HELP x X.\n# TYPE x gauge\n");
}

static void check_label(const char *value, const char *want)
{
    char expected[256];
    struct exposition e = {.text = NULL};
    exposition_begin(&e, "x", "gauge", "X.");
    exposition_add(&e, (struct exposition_label[]){{"l", value}, {NULL, NULL}}, 0.5);
    exposition_end(&e);
    (void)snprintf(expected, sizeof expected, "# HELP x X.\n# TYPE x gauge\nx{l=\"%s\"} 0.5\n",
                   want);
    check_finish(&e, expected);
}

TEST("a label's value cannot end the label, the line or the encoding")
{
    check_label("a\"} 1\nforged 2\\", "a\\\"} 1\\nforged 2\\\\");
    check_label("gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f");
    check_label("\xf0\x9f\x9a\xa2", "\xf0\x9f\x9a\xa2");
    check_label("\xff\xfe", "??");
    check_label("\xc3", "?");
    check_label("\xe2\x82", "??");
    check_label("\xc0\xaf", "??");
    check_label("\xed\xa0\x80", "???");
    check_label("\xf4\x90\x80\x80", "????");
    check_label("\xf5\x80\x80\x80", "????");
    check_label("", "");
}

TEST("many samples are kept in order")
{
    enum { MANY = 5000 };
    char name[16];
    struct exposition e = {.text = NULL};
    exposition_begin(&e, "x", "gauge", "X.");
    for (int i = MANY; i > 0; i--) {
        (void)snprintf(name, sizeof name, "%05d", i);
        add(&e, name, "r", i);
    }
    exposition_end(&e);
    char *text = exposition_finish(&e);
    int lines = 0, last = 0, n;
    for (const char *p = text; (p = strstr(p, "app=\"")); p++, lines++) {
        CHECK_INT(sscanf(p, "app=\"%d", &n), 1);
        CHECK(n > last);
        last = n;
    }
    CHECK_INT(lines, MANY);
    free(text);
}
