/* Hosts and paths in their one form. */
#include "wire/uri.h"

#include "test.h"
#include "wire/scratch.h"

#define CHECK_HOST(text, want)                                                                     \
    do {                                                                                           \
        struct sniffed s_;                                                                         \
        struct str host_ = {NULL, 0};                                                              \
        sniffed_reset(&s_, PROTO_HTTP);                                                            \
        CHECK_INT(uri_host(STR(text), &s_, &host_), 0);                                            \
        CHECK_STR(host_, want);                                                                    \
    } while (0)

#define CHECK_PATH(text, want)                                                                     \
    do {                                                                                           \
        struct sniffed s_;                                                                         \
        struct str path_ = {NULL, 0};                                                              \
        sniffed_reset(&s_, PROTO_HTTP);                                                            \
        CHECK_INT(uri_path(STR(text), &s_, &path_), 0);                                            \
        CHECK_STR(path_, want);                                                                    \
    } while (0)

TEST("a host loses port, final dot, brackets and capitals")
{
    CHECK_HOST("Blog.Example", "blog.example");
    CHECK_HOST("blog.example.", "blog.example");
    CHECK_HOST("blog.example.:8080", "blog.example");
    CHECK_HOST("a:", "a");
    CHECK_HOST("127.0.0.1:80", "127.0.0.1");
    CHECK_HOST("[::1]", "::1");
    CHECK_HOST("[2001:DB8:0:0::1]:443", "2001:db8::1");
    CHECK_HOST("xn--bcher-kva.example", "xn--bcher-kva.example");
    CHECK_HOST("_srv.a_b", "_srv.a_b");
}

TEST("a host that is none is refused")
{
    const char *bad[] = {"",       ".",   "a..b",     ".a",          "a..",     "a b",
                         "a/b",    "a@b", "a:b",      "a:1:2",       "::1",     "[::1",
                         "[::1]x", "[]",  "[::g]",    "[fe80::1%1]", "a:65536", "a:000080",
                         "*",      "*.a", "b\xc3\xbc"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sniffed s;
        struct str host;
        sniffed_reset(&s, PROTO_HTTP);
        CHECK_INT(uri_host(str_of(bad[i]), &s, &host), -EBADMSG);
    }
}

TEST("a token ends where a character is none of its own")
{
    const char *const chars = "!#$%&'*+-.^_`|~0123456789"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    CHECK_INT(uri_token_span(STR("a-B: c")), 3);
    CHECK_INT(uri_token_span(STR("")), 0);
    for (int c = 0; c < 256; c++) {
        char one = (char)c;
        CHECK_INT(uri_token_span((struct str){&one, 1}), c && strchr(chars, c) ? 1 : 0);
    }
}

TEST("labels of 63 and names of 253 characters are the longest")
{
    char name[256];
    struct sniffed s;
    struct str host;
    sniffed_reset(&s, PROTO_HTTP);
    memset(name, 'a', sizeof name);
    CHECK_INT(uri_name((struct str){name, 63}, &s, &host), 0);
    CHECK_INT(uri_name((struct str){name, 64}, &s, &host), -EBADMSG);
    for (size_t i = 50; i < sizeof name; i += 51)
        name[i] = '.';
    CHECK_INT(uri_name((struct str){name, 253}, &s, &host), 0);
    CHECK_INT(uri_name((struct str){name, 254}, &s, &host), -EBADMSG);
}

TEST("dots are resolved and never lead above the root")
{
    CHECK_PATH("/", "/");
    CHECK_PATH("/a/b", "/a/b");
    CHECK_PATH("/a/./b/.", "/a/b/");
    CHECK_PATH("/a/../b", "/b");
    CHECK_PATH("/a/b/..", "/a/");
    CHECK_PATH("/../../a", "/a");
    CHECK_PATH("/..", "/");
    CHECK_PATH("/a//b/", "/a//b/");
    CHECK_PATH("/a//../b", "/a/b");
    CHECK_PATH("/...", "/...");
    CHECK_PATH("/.a/..b", "/.a/..b");
}

TEST("only unreserved octets are decoded, and before dots are resolved")
{
    CHECK_PATH("/%61%2D%7e", "/a-~");
    CHECK_PATH("/a%2Fb%00%25%C3%BC", "/a%2Fb%00%25%C3%BC");
    CHECK_PATH("/a/%2e%2E/b", "/b");
    CHECK_PATH("/a/%2e%2e%2Fb", "/a/..%2Fb");
}

TEST("the digits of an octet that stays encoded are capitals")
{
    CHECK_PATH("/caf%c3%A9/x%2f", "/caf%C3%A9/x%2F");
}

TEST("a path that is none is refused")
{
    const char *bad[] = {"", "a", "/%", "/%4", "/%4x", "/a b", "/a#b", "/\x7f", "/\xc3\xbc"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sniffed s;
        struct str path;
        sniffed_reset(&s, PROTO_HTTP);
        CHECK_INT(uri_path(str_of(bad[i]), &s, &path), -EBADMSG);
    }
}

/* "/a", and then `count` times `segment`, and then so many times `tail`. */
static struct str long_path(char *buf, size_t count, const char *segment, const char *tail)
{
    size_t n = 2;
    memcpy(buf, "/a", n);
    for (size_t i = 0; i < 2 * count; i++) {
        const char *s = i < count ? segment : tail;
        memcpy(buf + n, s, strlen(s));
        n += strlen(s);
    }
    return (struct str){buf, n};
}

TEST("a path beyond the scratch is cut behind a segment, and its dots still count")
{
    static char buf[8192];
    struct sniffed s;
    struct str path;
    sniffed_reset(&s, PROTO_HTTP);
    CHECK_INT(uri_path(long_path(buf, 500, "/123456789", ""), &s, &path), 0);
    CHECK(path.n > SNIFFED_SCRATCH - 20 && path.n <= SNIFFED_SCRATCH);
    CHECK_INT(path.p[path.n - 1], '/');
    CHECK_INT(path.n % 10, 3);
    sniffed_reset(&s, PROTO_HTTP);
    CHECK_INT(uri_path(long_path(buf, 500, "/123456789", "/%2e."), &s, &path), 0);
    CHECK_STR(path, "/a/");
}
