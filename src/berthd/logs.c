/* The verb `logs`: who asks for an application's output gets a descriptor of its log, if it is
 * theirs, and otherwise a sentence that helps. */
#include <stdio.h>
#include <stdlib.h>

#include "berthd/applog.h"
#include "berthd/command.h"
#include "berthd/names.h"

static bool may_read(const struct server *s, const struct ucred *cred, uid_t owner)
{
    return cred->uid == 0 || cred->uid == s->uid || cred->uid == owner;
}

static struct app *app_by_name(const struct server *s, const char *name)
{
    list_for_each(a, &s->apps, struct app, link)
    {
        if (strcmp(a->name, name) == 0)
            return a;
    }
    return NULL;
}

static int no_log(const struct server *s, const char *name, char reason[COMMAND_REASON_MAX])
{
    const struct app *a = app_by_name(s, name);
    if (a && a->pool)
        (void)snprintf(reason, COMMAND_REASON_MAX, "%s has written nothing yet", name);
    else if (a)
        (void)snprintf(reason, COMMAND_REASON_MAX,
                       "%s was started by `berth run`: its output is in the terminal, or wherever "
                       "whoever started it sent it (pid %d); only programs that berthd starts "
                       "itself have a log",
                       name, a->pid);
    else
        (void)snprintf(reason, COMMAND_REASON_MAX,
                       "there is no application '%s'; `berth ls` lists them", name);
    return -ENOENT;
}

/* "0" is the newest file; at most three digits. */
static bool age_parse(const char *text, unsigned *ret_age)
{
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > 3 || text[n])
        return false;
    *ret_age = (unsigned)strtoul(text, NULL, 10);
    return true;
}

int command_logs(struct server *s, struct command_ask *ask, struct command_answer *answer)
{
    unsigned age = 0;
    if (ask->arg_count < 1 || ask->arg_count > 2 ||
        (ask->arg_count == 2 && !age_parse(ask->args[1], &age)))
        return -EINVAL;
    const struct applog *l = applog_find(&s->applogs, ask->args[0]);
    if (!l)
        return no_log(s, ask->args[0], answer->reason);
    if (!may_read(s, ask->cred, applog_owner(l))) {
        char user[NAME_MAX_CHARS];
        (void)snprintf(answer->reason, sizeof answer->reason, "the log of %s is user %s's",
                       ask->args[0], names_user(s->names, applog_owner(l), user));
        return -EPERM;
    }
    int fd = applog_read_fd(l, age);
    if (fd < 0)
        (void)snprintf(answer->reason, sizeof answer->reason, "the log of %s cannot be read: %s",
                       ask->args[0], strerror(-fd));
    else
        answer->fd = fd;
    return fd < 0 ? fd : 0;
}
