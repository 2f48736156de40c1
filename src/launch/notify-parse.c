/* Reads the lines of a notify datagram: bytes in, fields out. */
#include "base/rd.h"
#include "launch/notify.h"

static bool number(struct str text, uint64_t *ret_number)
{
    uint64_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (!ascii_is_digit(text.p[i]) || n > (UINT64_MAX - 9) / 10)
            return false;
        n = 10 * n + (uint64_t)(text.p[i] - '0');
    }
    if (text.n == 0)
        return false;
    *ret_number = n;
    return true;
}

/* The length of the character of more than one byte that the text begins with, 0 when it is none:
 * cut, overlong, half of a pair, or beyond the last. */
static size_t utf8_length(struct str s)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t first = (uint8_t)s.p[0];
    size_t n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint32_t c = first & (0xffu >> (n + 1));
    if (first < 0xc0 || first >= 0xf8 || n > s.n)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if (((uint8_t)s.p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | ((uint8_t)s.p[i] & 0x3f);
    }
    bool good = c >= least[n] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff) && c >= 0xa0;
    return good ? n : 0;
}

/* It will be shown on terminals and in JSON: what does not belong there becomes a question mark. */
static void status_copy(struct str text, char status[NOTIFY_STATUS_MAX])
{
    size_t used = 0;
    while (text.n > 0) {
        uint8_t c = (uint8_t)text.p[0];
        size_t n = c < 0x80 ? 1 : utf8_length(text), size = n ? n : 1;
        if (used + size >= NOTIFY_STATUS_MAX)
            break;
        if (n > 1)
            memcpy(status + used, text.p, n);
        else
            status[used] = n == 1 && c >= 0x20 && c != 0x7f ? (char)c : '?';
        used += size;
        text = str_skip(text, size);
    }
    status[used] = 0;
}

static void line_read(struct str line, struct notify *n)
{
    size_t key_n = 0;
    while (key_n < line.n && line.p[key_n] != '=')
        key_n++;
    if (key_n == line.n)
        return;
    struct str key = {line.p, key_n}, value = str_skip(line, key_n + 1);
    bool is_one = str_eq(value, STR("1"));
    uint64_t v;
    if (str_eq(key, STR("READY")))
        n->ready |= is_one;
    else if (str_eq(key, STR("STOPPING")))
        n->stopping |= is_one;
    else if (str_eq(key, STR("RELOADING")))
        n->reloading |= is_one;
    else if (str_eq(key, STR("WATCHDOG"))) {
        n->watchdog |= is_one;
        n->watchdog_trigger |= str_eq(value, STR("trigger"));
    } else if (str_eq(key, STR("MAINPID")) && number(value, &v) && v > 0 && v <= INT32_MAX)
        n->main_pid = (pid_t)v;
    else if (str_eq(key, STR("WATCHDOG_USEC")) && number(value, &v))
        n->watchdog_us = v;
    else if (str_eq(key, STR("EXTEND_TIMEOUT_USEC")) && number(value, &v))
        n->extend_us = v;
    else if (str_eq(key, STR("STATUS"))) {
        n->has_status = true;
        status_copy(value, n->status);
    }
}

void notify_parse(const void *text, size_t size, struct notify *ret_notify)
{
    struct notify n = {0};
    struct str rest = {text, size};
    while (rest.n > 0) {
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t line = end ? (size_t)(end - rest.p) : rest.n;
        line_read((struct str){rest.p, line}, &n);
        rest = str_skip(rest, line + 1);
    }
    *ret_notify = n;
}
