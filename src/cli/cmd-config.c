/* berth config: the configuration as it is understood, or every key that there is. */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/conf-json.h"
#include "conf/schema.h"
#include "conf/value.h"

static const char help[] =
    "usage: berth config [--config PATH] [--json]\n"
    "       berth config --defaults\n"
    "\n"
    "Prints the configuration with all defaults filled in, as text that can be read again.\n"
    "\n"
    "  --config PATH  a file, or a folder with berth.conf and apps.d/*.conf in it; without it\n"
    "                 /etc/berth for root, ~/.config/berth for others\n"
    "  --json         for programs: times in milliseconds, sizes in bytes\n"
    "  --defaults     every key with its default and what it means, as a file to begin with\n";

struct options {
    const char *path;
    bool json, defaults, help;
};

static int options_read(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"defaults", no_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    *o = (struct options){0};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        if (c == 'c')
            o->path = optarg;
        else if (c == ':')
            return cli_usage("config", "%s wants a path", argv[optind - 1]);
        else if (c == '?')
            return cli_usage("config", "there is no option %s", argv[optind - 1]);
        o->json |= c == 'j';
        o->defaults |= c == 'd';
        o->help |= c == 'h';
    }
    if (optind < argc)
        return cli_usage("config", "unexpected argument '%s'", argv[optind]);
    if (o->defaults && (o->path || o->json))
        return cli_usage("config", "--defaults stands alone");
    return CLI_OK;
}

/* In a comment line, as the key would be written. */
static void key_print(const struct conf_key *k)
{
    const struct conf_ops *ops = conf_ops(k->type);
    (void)printf("# %s.\n", k->help);
    if (k->type == CONF_CHOICE) {
        (void)printf("# One of:");
        for (size_t i = 0; k->choices[i]; i++)
            (void)printf(" %s", k->choices[i]);
    } else {
        (void)printf("# (%s%s%s%s)", ops->expects, k->zero ? ", or " : "", k->zero ? k->zero : "",
                     ops->count && !ops->one_line ? "; may be repeated" : "");
    }
    (void)printf("\n#%s = %s\n\n", k->name, k->preset ? k->preset : "");
}

static void defaults_print(void)
{
    (void)printf("# What is commented out is the default. berth.conf(5) says more; `berth check` "
                 "finds mistakes.\n\n");
    for (int i = 0; i < CONF_SECTIONS; i++) {
        const struct conf_schema *s = conf_schema(i);
        bool alone = !s->argument;
        (void)printf("# %s.\n%s[%s%s%s]\n\n", s->help, alone ? "" : "#", s->name, alone ? "" : " ",
                     alone ? "" : s->argument);
        for (size_t k = 0; k < s->count; k++)
            key_print(&s->keys[k]);
    }
}

static int config_print(const struct conf *c)
{
    int err = conf_global_format(&c->global, true, stdout);
    for (size_t i = 0; i < c->app_count && err == 0; i++) {
        (void)printf("\n# %s:%u\n", c->apps[i].place.file, c->apps[i].place.line);
        err = conf_app_format(&c->apps[i], true, stdout);
    }
    for (size_t i = 0; i < c->reserve_count && err == 0; i++) {
        (void)printf("\n# %s:%u\n", c->reserves[i].place.file, c->reserves[i].place.line);
        err = conf_reserve_format(&c->reserves[i], true, stdout);
    }
    return err;
}

static int config_read(const struct options *o)
{
    struct conf *c = NULL;
    struct conf_errors errors = {0};
    int status, r = conf_read(o->path, &c, &errors);
    for (size_t i = 0; i < errors.count; i++)
        conf_error_print(&errors.items[i], stderr);
    if (r < 0)
        status = cli_fail("config", r == -ENOMEM ? "memory is short"
                                                 : "the configuration has errors: see berth check");
    else if (o->json)
        status = conf_json_print("config", conf_json(c));
    else
        status = config_print(c) == 0 && fflush(stdout) == 0
                     ? CLI_OK
                     : cli_fail("config", "the answer cannot be written");
    conf_errors_done(&errors);
    conf_free(c);
    return status;
}

int cmd_config(int argc, char **argv)
{
    struct options o;
    int status = options_read(argc, argv, &o);
    if (status != CLI_OK)
        return status;
    if (o.help) {
        (void)fputs(help, stdout);
        return CLI_OK;
    }
    if (!o.defaults)
        return config_read(&o);
    defaults_print();
    return fflush(stdout) == 0 ? CLI_OK : cli_fail("config", "the answer cannot be written");
}
