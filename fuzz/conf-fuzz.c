/* The text of a configuration: each error says where it is and what would be right in printable
 * words; what is read can be written and read again to the same. Behind a question mark stands a
 * request, which is put to a small configuration. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "conf/explain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_text(const char *text)
{
    for (const char *c = text; *c; c++)
        must((uint8_t)*c >= ' ' && *c != 0x7f);
}

static void check_errors(const struct conf_errors *e, struct str text)
{
    unsigned lines = 1;
    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    must(e->count > 0);
    for (size_t i = 0; i < e->count; i++) {
        must(e->items[i].line >= 1 && e->items[i].line <= lines);
        must(e->items[i].sentence[0] != 0);
        check_text(e->items[i].section);
        check_text(e->items[i].key);
        check_text(e->items[i].sentence);
    }
}

static int write_all(const struct conf *c, bool all, FILE *f)
{
    int err = conf_global_format(&c->global, all, f);
    for (size_t i = 0; i < c->app_count && err == 0; i++)
        err = conf_app_format(&c->apps[i], all, f);
    for (size_t i = 0; i < c->reserve_count && err == 0; i++)
        err = conf_reserve_format(&c->reserves[i], all, f);
    return err;
}

static void check_fixpoint(const struct conf *c, bool all)
{
    char *text = NULL, *difference = NULL;
    size_t n = 0, difference_n = 0;
    struct conf *again = NULL;
    struct conf_errors errors = {0};
    FILE *f = open_memstream(&text, &n), *d = open_memstream(&difference, &difference_n);
    must(f && d);
    must(write_all(c, all, f) == 0);
    (void)fclose(f);
    must(conf_read_text((struct str){text, n}, "f", &again, &errors) == 0);
    must(conf_diff(c, again, d) == 0);
    (void)fclose(d);
    must(difference_n == 0);
    conf_free(again);
    free(text);
    free(difference);
}

static void fuzz_request(const char *request)
{
    static const char text[] =
        "[app a]\nroute=a.example http://a.example/x/?from=10.0.0.0/8 any://\n"
        "listen=*:80 [::]:443 127.0.0.1:80\ncommand=a\n"
        "[reserve b.example]\nuser=b\n[app c]\nroute=c\ncommand=c\n";
    struct conf *c = NULL;
    struct conf_errors errors = {0};
    struct conf_router *r = NULL;
    struct conf_answer answers[CONF_ANSWERS_MAX];
    struct conf_near near[CONF_NEAR_MAX];
    char reason[256] = "";
    must(conf_read_text(STR(text), "f", &c, &errors) == 0);
    must(conf_router_new(c, &r) == 0);
    int n = conf_explain(r, request, answers, reason, sizeof reason);
    must(n > 0 || (n == -EINVAL && reason[0]));
    must(conf_near(c, request, near) <= CONF_NEAR_MAX);
    conf_router_free(r);
    conf_free(c);
}

static void fuzz_text(struct str text)
{
    struct conf *c = NULL;
    struct conf_errors errors = {0};
    int r = conf_read_text(text, "fuzz.conf", &c, &errors);
    must(r == 0 || r == -EINVAL);
    if (r == 0) {
        check_fixpoint(c, false);
        check_fixpoint(c, true);
    } else {
        check_errors(&errors, text);
    }
    conf_errors_done(&errors);
    conf_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    must(text != NULL);
    memcpy(text, data, size);
    text[size] = 0;
    if (size > 0 && text[0] == '?')
        fuzz_request(text + 1);
    else
        fuzz_text((struct str){text, size});
    free(text);
    return 0;
}
