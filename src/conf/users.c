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
    uid_t uid;
    char self[260]; /* its name, or empty */
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

/* A section whose key is asked about. */
struct asked {
    const char *file;
    char section[CONF_SECTION_SHOWN + 16];
    unsigned line;
};

static void complain(struct known *k, struct asked *at, const char *key, char *sentence)
{
    const struct conf_error e = {(char *)at->file, at->section, (char *)key, sentence, at->line};
    int err = conf_errors_add(k->errors, &e);
    k->err = err < 0 ? err : k->err < 0 ? k->err : -EINVAL;
}

static void user_check(struct known *k, struct asked *at, const char *user)
{
    char sentence[400];
    if (!user || ask(k, k->users, user, user_exists))
        return;
    (void)snprintf(sentence, sizeof sentence,
                   "there is no user %s: getent passwd lists those that there are", user);
    complain(k, at, "user", sentence);
}

static void group_check(struct known *k, struct asked *at, const char *group)
{
    char sentence[400];
    if (!group || ask(k, k->groups, group, group_exists))
        return;
    (void)snprintf(sentence, sizeof sentence,
                   "there is no group %s: getent group lists those that there are", group);
    complain(k, at, "group", sentence);
}

/* Only root's berthd can start programs as somebody else. */
static void other_check(struct known *k, struct asked *at, const char *user)
{
    char sentence[] = "only the berthd of root can start programs as another user: leave this out";
    char number[16];
    (void)snprintf(number, sizeof number, "%u", k->uid);
    if (k->uid != 0 && user && strcmp(user, number) != 0 && strcmp(user, k->self) != 0)
        complain(k, at, "user", sentence);
}

static void app_check(struct known *k, const struct conf_app *app)
{
    struct asked at = {.file = app->place.file, .line = conf_app_line(app, "user")};
    (void)snprintf(at.section, sizeof at.section, "app %s", app->name);
    user_check(k, &at, app->user);
    other_check(k, &at, app->user);
    at.line = conf_app_line(app, "group");
    group_check(k, &at, app->group);
}

static void all_check(struct known *k, const struct conf *c)
{
    for (size_t i = 0; i < c->app_count; i++)
        app_check(k, &c->apps[i]);
    for (size_t i = 0; i < c->reserve_count; i++) {
        const struct conf_reserve *r = &c->reserves[i];
        struct asked at = {.file = r->place.file, .line = conf_reserve_line(r, "user")};
        (void)snprintf(at.section, sizeof at.section, "reserve %.80s", r->route);
        user_check(k, &at, r->user);
    }
}

int conf_check_users(const struct conf *c, struct conf_errors *errors)
{
    struct known k = {conf_index_new(), conf_index_new(), .uid = geteuid(), .errors = errors};
    const struct passwd *self = getpwuid(k.uid);
    (void)snprintf(k.self, sizeof k.self, "%s", self ? self->pw_name : "");
    if (k.users && k.groups)
        all_check(&k, c);
    else
        k.err = -ENOMEM;
    conf_index_free(k.users);
    conf_index_free(k.groups);
    return k.err;
}
