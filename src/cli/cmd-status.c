/* berth status: berthd itself. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/daemon.h"

static const char status_help[] =
    "usage: berth status [--security] [--json]\n\n"
    "Shows the processes and counters of this user's berthd.\n\n"
    "  --security  who each process is and what it may do, as the kernel shows it, and who may\n"
    "              ask berthd for what\n"
    "  --json      for programs\n";
static void status_print(const json_t *status)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)status, key, value)
    {
        char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
        (void)printf("%-14s %s\n", key, text ? text : json_string_value(value));
        free(text);
    }
}

static void words_print(const char *title, const json_t *list)
{
    size_t i;
    json_t *word;
    (void)printf("  %-16s", title);
    if (json_array_size(list) == 0)
        (void)printf(" none");
    json_array_foreach(list, i, word)(void) printf(" %s", json_string_value(word));
    (void)printf("\n");
}

static long long number_of(const json_t *j, const char *key)
{
    return (long long)json_integer_value(json_object_get(j, key));
}

static void process_print(const json_t *p)
{
    static const char *const modes[] = {"off", "strict", "filter"};
    long long mode = number_of(p, "seccomp");
    const char *root = json_string_value(json_object_get(p, "root"));
    const json_t *sockets = json_object_get(p, "network_sockets");
    (void)printf("%s%s%s (pid %lld)\n", cli_style(stdout, STYLE_BOLD),
                 json_string_value(json_object_get(p, "name")), cli_style(stdout, STYLE_NONE),
                 number_of(p, "pid"));
    (void)printf("  %-16s %lld, group %lld\n", "user", number_of(p, "uid"), number_of(p, "gid"));
    words_print("capabilities", json_object_get(p, "capabilities"));
    words_print("bounding set", json_object_get(p, "bounding"));
    (void)printf("  %-16s %s, %lld filters\n", "seccomp", mode >= 0 && mode < 3 ? modes[mode] : "?",
                 number_of(p, "seccomp_filters"));
    (void)printf("  %-16s %s\n", "no new privs", number_of(p, "no_new_privs") ? "yes" : "no");
    (void)printf("  %-16s %s\n", "root folder", root ? root : "not readable");
    words_print("own namespaces", json_object_get(p, "own_namespaces"));
    (void)printf("  %-16s %lld listening, %lld connections\n", "network sockets",
                 number_of(sockets, "listening"), number_of(sockets, "connections"));
}

static void rights_print(const char *title, const json_t *list, const char *key)
{
    size_t i;
    json_t *r;
    (void)printf("%s%s%s\n", cli_style(stdout, STYLE_BOLD), title, cli_style(stdout, STYLE_NONE));
    json_array_foreach(list, i, r)(void)
        printf("  %-16s %s\n", json_string_value(json_object_get(r, "request")),
               json_string_value(json_object_get(r, key)));
}

static void security_print(const json_t *j)
{
    size_t i;
    json_t *p;
    const json_t *rights = json_object_get(j, "rights");
    json_array_foreach(json_object_get(j, "processes"), i, p) process_print(p);
    rights_print("verbs, and who may ask", json_object_get(rights, "commands"), "who");
    rights_print("messages, and who may send", json_object_get(rights, "messages"), "who");
    rights_print("what berth-dispatch may say", json_object_get(rights, "dispatch"), "gets");
}

int cmd_status(int argc, char **argv)
{
    bool as_json, security = argc > 1 && strcmp(argv[1], "--security") == 0;
    char *text = NULL;
    if (!security && argc > 2 && strcmp(argv[2], "--security") == 0) {
        argv[2] = argv[1];
        security = true;
    }
    if (security)
        argv[1] = argv[0];
    int status = cli_json_flag(argc - security, argv + security, status_help, &as_json);
    if (status == CLI_OK)
        status =
            cli_ask((const char *[]){security ? "security" : "status", NULL}, -EBADF, NULL, &text);
    if (status != CLI_OK)
        return status;
    json_t *j = json_loads(text, 0, NULL);
    if (!j)
        status = cli_fail("status", "berthd's answer makes no sense: is it of another version?");
    else if (as_json)
        (void)puts(text);
    else if (security)
        security_print(j);
    else
        status_print(j);
    json_decref(j);
    free(text);
    return status;
}
