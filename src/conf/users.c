/* What a configuration says of users and groups, asked of the system: not part of reading, because
 * a user that is made later is no reason to refuse all other applications. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>

#include "conf/index.h"
#include "conf/reader.h"

static bool is_number(const char *name)
{
    return *name && strspn(name, "0123456789") == strlen(name);
}

static bool user_exists(const char *name)
{
    return is_number(name) || getpwnam(name) != NULL;
}

static bool group_exists(const char *name)
{
    return is_number(name) || getgrnam(name) != NULL;
}

/* Answers are kept, because a question may go to a directory server. */
struct known {
    struct conf_index *users, *groups;
    struct conf_errors *errors;
    int err;
};

static bool ask(struct known *k, struct conf_index *x, const char *name,
                bool (*exists)(const char *name))
{
    uint32_t answer = conf_index_find(x, name);
    if (answer == CONF_INDEX_NONE) {
        answer = exists(name);
        if (conf_index_add(x, name, answer) < 0)
            k->err = -ENOMEM;
    }
    return answer;
}

static void complain(struct known *k, const struct conf_place *place, const char *section,
                     const char *key, const char *sentence)
{
    char shown[CONF_SECTION_SHOWN + 16];
    (void)snprintf(shown, sizeof shown, "%s", section);
    const struct conf_error e = {(char *)place->file, shown, (char *)key, (char *)sentence,
                                 place->line};
    int err = conf_errors_add(k->errors, &e);
    k->err = err < 0 ? err : k->err < 0 ? k->err : -EINVAL;
}

static void user_check(struct known *k, const struct conf_place *place, const char *section,
                       const char *user)
{
    char sentence[400];
    if (!user || ask(k, k->users, user, user_exists))
        return;
    (void)snprintf(sentence, sizeof sentence,
                   "there is no user %s: getent passwd lists those that there are", user);
    complain(k, place, section, "user", sentence);
}

static void group_check(struct known *k, const struct conf_app *app, const char *section)
{
    char sentence[400];
    if (!app->group || ask(k, k->groups, app->group, group_exists))
        return;
    (void)snprintf(sentence, sizeof sentence,
                   "there is no group %s: getent group lists those that there are", app->group);
    complain(k, &app->place, section, "group", sentence);
}

/* Only root's berthd can start programs as somebody else. */
static void other_check(struct known *k, const struct conf_app *app, const char *section)
{
    const struct passwd *self = getpwuid(geteuid());
    char number[16];
    (void)snprintf(number, sizeof number, "%u", geteuid());
    if (geteuid() == 0 || !app->user || strcmp(app->user, number) == 0 ||
        (self && strcmp(app->user, self->pw_name) == 0))
        return;
    complain(k, &app->place, section, "user",
             "only the berthd of root can start programs as another user: leave this out");
}

static void all_check(struct known *k, const struct conf *c)
{
    char section[CONF_SECTION_SHOWN + 16];
    for (size_t i = 0; i < c->app_count; i++) {
        const struct conf_app *app = &c->apps[i];
        (void)snprintf(section, sizeof section, "app %s", app->name);
        user_check(k, &app->place, section, app->user);
        group_check(k, app, section);
        other_check(k, app, section);
    }
    for (size_t i = 0; i < c->reserve_count; i++) {
        (void)snprintf(section, sizeof section, "reserve %.80s", c->reserves[i].route);
        user_check(k, &c->reserves[i].place, section, c->reserves[i].user);
    }
}

int conf_check_users(const struct conf *c, struct conf_errors *errors)
{
    struct known k = {conf_index_new(), conf_index_new(), errors, 0};
    if (k.users && k.groups)
        all_check(&k, c);
    else
        k.err = -ENOMEM;
    conf_index_free(k.users);
    conf_index_free(k.groups);
    return k.err;
}
