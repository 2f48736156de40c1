/* Believes nothing: what comes from a server is checked against the key, the clock and what was
 * known before. Only then it goes out, and what is new is remembered. Sentences about what is wrong
 * go into the caller's buffer. */
#include "rendezvous/found.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

struct trouble {
    char *text;
    size_t size;
};

static __attribute__((format(printf, 3, 4))) int say(const struct trouble *t, int r,
                                                     const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(t->text, t->size, format, args);
    va_end(args);
    return r;
}

const char *found_time(uint64_t unix_s, char buf[FOUND_TIME_MAX])
{
    time_t t = (time_t)unix_s;
    struct tm tm;
    buf[0] = '\0';
    if (gmtime_r(&t, &tm))
        (void)strftime(buf, FOUND_TIME_MAX, "%Y-%m-%d %H:%M UTC", &tm);
    return *buf ? buf : "?";
}

int target_parse(const char *text, struct target *ret_target, char *trouble, size_t size)
{
    const struct trouble out = {trouble, size};
    struct target t = {.name = ""};
    const char *slash = strchr(text, '/');
    struct str who = {text, slash ? (size_t)(slash - text) : strlen(text)};
    struct str service = str_of(slash ? slash + 1 : NULL);
    int r = key_parse(who, &t.key);
    if (r == -EBADMSG)
        return say(&out, -EINVAL, STR_FMT " is mistyped: its checksum is wrong", STR_ARG(who));
    if (r < 0 && !record_name_valid(who))
        return say(&out, -EINVAL, "'" STR_FMT "' is neither a key nor a name: %s", STR_ARG(who),
                   rdv_reason_sentence(RDV_BAD_NAME));
    if (slash && !record_name_valid(service))
        return say(&out, -EINVAL, "'" STR_FMT "' is no service's name", STR_ARG(service));
    if (r < 0)
        memcpy(t.name, who.p, who.n);
    if (slash)
        memcpy(t.service, service.p, service.n);
    *ret_target = t;
    return 0;
}

static int untrue(const struct trouble *out, const char *server, enum rdv_reason reason)
{
    return say(out, -EBADMSG, "%s shows a record that is refused: %s: %s", server,
               rdv_reason_word(reason), rdv_reason_sentence(reason));
}

static enum rdv_reason record_check(const struct target *t, const struct rdvmsg *answer,
                                    struct found *f)
{
    memcpy(f->key.b, answer->key, KEY_BYTES);
    if (!*t->name && !key_equal(&f->key, &t->key))
        return RDV_FORGED;
    f->registered = answer->record.n > 0;
    if (!f->registered)
        return RDV_OK;
    if (answer->record.n > sizeof f->bytes)
        return RDV_BAD_RECORD;
    memcpy(f->bytes, answer->record.p, answer->record.n);
    struct str bytes = {(const char *)f->bytes, answer->record.n};
    enum rdv_reason reason = signed_record_check(bytes);
    if (reason == RDV_OK)
        reason = signed_record_decode(bytes, &f->record);
    if (reason != RDV_OK)
        return reason;
    if (memcmp(f->record.key, f->key.b, KEY_BYTES) != 0)
        return RDV_FORGED;
    return f->record.not_after > (uint64_t)time(NULL) ? RDV_OK : RDV_EXPIRED;
}

int found_check(const struct target *t, const struct rdvmsg *answer, struct found *ret_found,
                char *trouble, size_t size)
{
    const struct trouble out = {trouble, size};
    struct found *f = ret_found;
    f->claimed = answer->number;
    f->age_s = answer->age_s;
    enum rdv_reason reason = record_check(t, answer, f);
    return reason == RDV_OK ? 0 : untrue(&out, f->server, reason);
}

static int key_changed(const struct trouble *out, const struct target *t, const struct found *f,
                       const struct known_peer *before)
{
    char old[KEY_TEXT_MAX], new[KEY_TEXT_MAX], when[FOUND_TIME_MAX];
    return say(out, -EKEYREJECTED,
               "KeyChanged: %s is not who it was. Somebody may be pretending to be %s.\n"
               "  first seen %s:  %s\n"
               "  %s says now:  %s\n"
               "If its owner has told you the new key: berth peers accept %s %s",
               t->name, t->name, found_time(before->since, when), key_format(&before->key, old),
               f->server, key_format(&f->key, new), t->name, new);
}

/* With the file open for change. */
static int compare(const struct trouble *out, struct known *k, const struct target *t,
                   struct found *f)
{
    struct known_peer *p = known_find(k, t->name, &f->key);
    f->first_use = !p;
    if (p && !key_equal(&p->key, &f->key))
        return key_changed(out, t, f, p);
    if (f->registered && f->record.sequence < known_sequence(k, &f->key))
        return untrue(out, f->server, RDV_REPLAYED);
    if (p && (!f->registered || f->record.sequence == p->sequence))
        return 0;
    struct known_peer new = {.key = f->key, .since = (uint64_t)time(NULL)};
    memcpy(new.name, t->name, sizeof new.name);
    int r = p ? 0 : known_add(k, &new);
    if (r == 0 && f->registered)
        (p ? p : &k->peers[k->count - 1])->sequence = f->record.sequence;
    if (r == 0)
        r = known_save(k);
    return r < 0 ? say(out, r, "%s cannot be written: %s", k->path, strerror(-r)) : 0;
}

int found_remember(const char *path, const struct target *t, struct found *f, char *trouble,
                   size_t size)
{
    const struct trouble out = {trouble, size};
    struct known k;
    size_t line = 0;
    int r = keys_folder_make(path);
    if (r == 0)
        r = known_open(path, true, &k, &line);
    if (line > 0)
        return say(&out, -EBADMSG, "%s: line %zu makes no sense", path, line);
    if (r < 0)
        return say(&out, r, "%s: %s", path, strerror(-r));
    r = compare(&out, &k, t, f);
    known_done(&k);
    return r;
}
