/* Looks up users and groups. Names or numbers come in, numbers and what a login would know of the
 * user go out; the account owns its texts and its list of groups. */
#include "launch/account.h"

#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"

#define ENTRY_SIZE 65536

static int number(const char *text, uint32_t *ret_number)
{
    uint64_t n = 0;
    for (const char *p = text; *p; p++) {
        if (!ascii_is_digit(*p) || n > UINT32_MAX)
            return -EINVAL;
        n = 10 * n + (uint64_t)(*p - '0');
    }
    /* The greatest one stands for "no change" in the calls that set it. */
    if (!*text || n >= UINT32_MAX)
        return -EINVAL;
    *ret_number = (uint32_t)n;
    return 0;
}

static int refuse(int err, char reason[ACCOUNT_REASON_MAX], const char *kind, const char *name)
{
    if (err == 0 || err == -ENOENT || err == -ESRCH) {
        (void)snprintf(reason, ACCOUNT_REASON_MAX, "%s '%.64s' does not exist", kind, name);
        return -ENOENT;
    }
    (void)snprintf(reason, ACCOUNT_REASON_MAX, "%s '%.64s' cannot be looked up: %s", kind, name,
                   strerror(-err));
    return err;
}

static void entry_take(struct account *a, const struct passwd *p)
{
    a->uid = p->pw_uid;
    a->gid = p->pw_gid;
    a->name = p->pw_name;
    a->home = p->pw_dir && *p->pw_dir ? p->pw_dir : NULL;
    a->shell = p->pw_shell && *p->pw_shell ? p->pw_shell : NULL;
}

/* A number needs no entry, but without one it has no group either. */
static int user_find(const char *user, struct account *a)
{
    struct passwd entry, *found = NULL;
    uint32_t uid = geteuid();
    int err = user ? getpwnam_r(user, &entry, a->text, ENTRY_SIZE, &found) : 0;
    bool is_number = !user || number(user, &uid) == 0;
    if (!found && is_number)
        err = getpwuid_r(uid, &entry, a->text, ENTRY_SIZE, &found);
    if (found) {
        entry_take(a, found);
        return 0;
    }
    if (!is_number)
        return err > 0 ? -err : -ENOENT;
    a->uid = uid;
    a->gid = user ? (gid_t)-1 : getegid();
    return 0;
}

static int group_find(const char *group, gid_t *ret_gid)
{
    struct group entry, *found = NULL;
    uint32_t gid;
    char *text = malloc(ENTRY_SIZE);
    if (!text)
        return -ENOMEM;
    int err = getgrnam_r(group, &entry, text, ENTRY_SIZE, &found);
    if (found)
        *ret_gid = found->gr_gid;
    else if (number(group, &gid) == 0)
        *ret_gid = gid;
    else
        err = err > 0 ? err : ENOENT;
    free(text);
    return found ? 0 : -err;
}

static int groups_list(struct account *a)
{
    for (int room = 32;; room = a->group_count) {
        gid_t *groups = realloc(a->groups, (size_t)room * sizeof *groups);
        if (!groups)
            return -ENOMEM;
        a->groups = groups;
        a->group_count = room;
        if (!a->name) {
            a->groups[0] = a->gid;
            a->group_count = 1;
            return 0;
        }
        if (getgrouplist(a->name, a->gid, a->groups, &a->group_count) >= 0)
            return 0;
        if (a->group_count <= room)
            return -EIO;
    }
}

/* An ordinary user may name itself; root that names itself gets root's groups. */
static bool is_own(const struct account *a, const char *user, const char *group)
{
    if (!user && !group)
        return true;
    return geteuid() != 0 && a->uid == geteuid() && a->gid == getegid();
}

static int find(const char *user, const char *group, struct account *a,
                char reason[ACCOUNT_REASON_MAX])
{
    a->text = malloc(ENTRY_SIZE);
    int err = a->text ? user_find(user, a) : -ENOMEM;
    if (err < 0)
        return refuse(err, reason, "user", user ? user : "");
    err = group ? group_find(group, &a->gid) : 0;
    if (err < 0)
        return refuse(err, reason, "group", group);
    if (a->gid == (gid_t)-1) {
        (void)snprintf(reason, ACCOUNT_REASON_MAX,
                       "user %u is not in the user database: name a group, too", a->uid);
        return -EINVAL;
    }
    a->is_own = is_own(a, user, group);
    err = a->is_own ? 0 : groups_list(a);
    return err < 0 ? refuse(err, reason, "user", user ? user : "") : 0;
}

int account_find(const char *user, const char *group, struct account *ret_account,
                 char ret_reason[ACCOUNT_REASON_MAX])
{
    struct account a = {0};
    int err = find(user, group, &a, ret_reason);
    if (err < 0)
        account_done(&a);
    else
        *ret_account = a;
    return err;
}

void account_done(struct account *a)
{
    free(a->groups);
    free(a->text);
    *a = (struct account){0};
}
