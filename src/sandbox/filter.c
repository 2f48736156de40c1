/* Makes a filter of tables of system calls and loads it, by libseccomp. Nothing is kept. */
#include "sandbox/filter.h"

#include <errno.h>
#include <sys/prctl.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
static int filter_make(const struct filter *f)
{
    (void)f;
    return -ENOTSUP;
}
#else
static int rules_add(scmp_filter_ctx ctx, const struct filter *f)
{
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; r == 0 && i < f->allowed_count; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, f->allowed[i], 0);
    for (size_t i = 0; r == 0 && i < f->narrow_count; i++) {
        const struct filter_narrow *n = &f->narrow[i];
        const struct scmp_arg_cmp equal = {n->argument, SCMP_CMP_EQ, n->value, 0};
        r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, n->call, 1, &equal);
    }
    if (r == 0 && f->more)
        r = f->more(ctx);
    if (r < 0)
        return r;
    /* abort(), but no signal to others of the same user; fcntl() could ask for such ones. */
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                            SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
}

static int filter_make(const struct filter *f)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return -ENOMEM;
    int r = rules_add(ctx, f);
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r;
}
#endif

int filter_load(const struct filter *f)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : filter_make(f);
}
