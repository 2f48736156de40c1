/* The table of verbs. A message names a verb and brings its arguments; the verb's function gets
 * them as strings. */
#include "berthd/command.h"

#include "berthd/metrics.h"
#include "berthd/pool-command.h"
#include "berthd/reserve.h"
#include "berthd/security.h"

struct command {
    const char *verb;
    enum right right;
    int (*run)(struct server *s, struct command_ask *ask, struct command_answer *ret_answer);
};

static int answer_text(char *text, struct command_answer *answer)
{
    answer->text = text;
    return text ? 0 : -ENOMEM;
}

static int list(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    return answer_text(report_list(s, ask->cred->uid), answer);
}

static int security(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    (void)ask;
    return answer_text(security_report(s), answer);
}

static int status(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    (void)ask;
    return answer_text(report_status(s), answer);
}

static int metrics(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    (void)ask;
    return answer_text(metrics_text(s), answer);
}

static int upgrade(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    return upgrade_start(s, ask->client, answer->reason, sizeof answer->reason);
}

/* One line a verb, in the order of the alphabet. */
static const struct command commands[] = {
    {"halt", RIGHT_THEIRS, command_halt},
    {"list", RIGHT_LOCAL, list},
    {"logs", RIGHT_THEIRS, command_logs},
    {"metrics", RIGHT_USER, metrics},
    {"reload", RIGHT_OWNER, command_reload},
    {"reserve", RIGHT_LOCAL, reserve_command_add},
    {"reserve-covers", RIGHT_LOCAL, reserve_command_covers},
    {"reserve-delete", RIGHT_LOCAL, reserve_command_delete},
    {"reserve-list", RIGHT_LOCAL, reserve_command_list},
    {"restart", RIGHT_THEIRS, command_restart},
    {"run", RIGHT_LOCAL, command_run_pool},
    {"security", RIGHT_LOCAL, security},
    {"start", RIGHT_THEIRS, command_start},
    {"status", RIGHT_LOCAL, status},
    {"upgrade", RIGHT_OWNER, upgrade},
};

const char *right_name(enum right right)
{
    static const char *const names[RIGHT_COUNT] = {
        [RIGHT_ANY] = "anybody",
        [RIGHT_LOCAL] = ("berthd's user, root, applications; of the system's berthd every local "
                         "user"),
        [RIGHT_THEIRS] = "the owner of what is asked about, root",
        [RIGHT_USER] = "berthd's user, root, applications",
        [RIGHT_APP] = "applications, for what is theirs",
        [RIGHT_OWNER] = "berthd's user, root",
    };
    return names[right];
}

json_t *command_rights_json(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        (void)json_array_append_new(list, json_pack("{s:s, s:s}", "request", commands[i].verb,
                                                    "who", right_name(commands[i].right)));
    return list;
}

int command_parse(const struct appmsg *m, struct command_ask *ask, enum right *ret_right)
{
    struct str rest = m->text;
    while (rest.n > 0) {
        size_t n = strnlen(rest.p, rest.n);
        if (n == rest.n || ask->arg_count == COMMAND_ARGS_MAX)
            return -EBADMSG;
        ask->args[ask->arg_count++] = rest.p;
        rest = str_skip(rest, n + 1);
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (str_eq(m->name, str_of(commands[i].verb))) {
            ask->command = &commands[i];
            *ret_right = commands[i].right;
            return 0;
        }
    return -ENOENT;
}

int command_run(struct server *s, struct command_ask *ask, struct command_answer *ret_answer)
{
    return ask->command->run(s, ask, ret_answer);
}
