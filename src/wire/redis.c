/* Redis: the peeked bytes come in; whether they are a Redis client's goes out. There is no name in
 * them. Clients speak RESP arrays of bulk strings; people and probes type inline commands. */
#include "wire/scratch.h"
#include "wire/sniffed.h"

/* Redis accepts up to 1024 * 1024 arguments, of up to 512 MiB. */
#define COUNT_DIGITS_MAX 7
#define BULK_DIGITS_MAX  9

/* Commands that somebody may type first. GET is none of them: it is HTTP's. */
static const char *const inline_commands[] = {
    "AUTH",    "CLIENT", "COMMAND", "CONFIG", "DBSIZE",   "ECHO", "HELLO",  "INFO", "KEYS",
    "MONITOR", "PING",   "PSYNC",   "QUIT",   "REPLCONF", "ROLE", "SELECT", "SYNC", "TIME",
};

/* `mark` digits CR LF at *at, which is moved behind them. The first digit is not 0. */
static enum sniff_verdict header(struct str in, char mark, size_t digits_max, size_t *at)
{
    size_t i = *at, first = i + 1;
    if (i < in.n && in.p[i] != mark)
        return SNIFF_NOT;
    for (i++; i < in.n && ascii_is_digit(in.p[i]); i++)
        if (in.p[first] == '0' || i - first >= digits_max)
            return SNIFF_NOT;
    if ((i < in.n && (i == first || in.p[i] != '\r')) || (i + 1 < in.n && in.p[i + 1] != '\n'))
        return SNIFF_NOT;
    *at = i + 2;
    return *at <= in.n ? SNIFF_DONE : SNIFF_MORE;
}

/* "*2\r\n$4\r\n": that much is enough. */
static enum sniff_verdict array(struct str in)
{
    size_t at = 0;
    enum sniff_verdict v = header(in, '*', COUNT_DIGITS_MAX, &at);
    return v == SNIFF_DONE ? header(in, '$', BULK_DIGITS_MAX, &at) : v;
}

/* Is the word, or when it has not ended yet its beginning, a command? */
static bool is_command(struct str word, bool ended)
{
    for (size_t i = 0; i < sizeof inline_commands / sizeof *inline_commands; i++) {
        struct str command = str_of(inline_commands[i]);
        if (word.n > command.n || (ended && word.n < command.n))
            continue;
        command.n = word.n;
        if (str_eq_nocase(word, command))
            return true;
    }
    return false;
}

/* The whole line is waited for: what has a path for its first argument, or a version of HTTP
 * anywhere, is left to HTTP, so that no bytes are both. */
static enum sniff_verdict inline_command(struct str in)
{
    size_t n = 0;
    while (n < in.n && ascii_is_alpha(in.p[n]))
        n++;
    if (n < in.n && !strchr(" \r\n", in.p[n]))
        return SNIFF_NOT;
    if (!is_command((struct str){in.p, n}, n < in.n))
        return SNIFF_NOT;
    if (str_starts(str_skip(in, n), STR(" /")))
        return SNIFF_NOT;
    for (; n < in.n && in.p[n] != '\n'; n++)
        if ((uint8_t)in.p[n] < 0x20 && in.p[n] != '\r')
            return SNIFF_NOT;
    if (n == in.n)
        return SNIFF_MORE;
    return memmem(in.p, n, " HTTP/", 6) ? SNIFF_NOT : SNIFF_DONE;
}

enum sniff_verdict redis_sniff(struct str in, struct sniffed *out)
{
    if (in.n == 0)
        return SNIFF_MORE;
    enum sniff_verdict v = in.p[0] == '*' ? array(in) : inline_command(in);
    if (v == SNIFF_DONE)
        sniffed_reset(out, PROTO_REDIS);
    return v;
}
