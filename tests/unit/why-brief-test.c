/* What a program whose bind() failed is told, over sockets of this very test. */
#include "test.h"

#include <unistd.h>

#include "why/why.h"

static int listener_open(struct addr *ret_addr)
{
    static const uint8_t loop[4] = {127, 0, 0, 1};
    struct addr a = addr_make(AF_INET, loop, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(fd, &a.sa, a.len), 0);
    CHECK_INT(listen(fd, 1), 0);
    CHECK_INT(getsockname(fd, &a.sa, &a.len), 0);
    *ret_addr = a;
    return fd;
}

TEST("a refused bind is explained with the holder and the command")
{
    struct addr a;
    char text[WHY_TEXT_MAX] = "", want[128];
    int fd = listener_open(&a);
    CHECK_INT(why_bind_failed(&a, EADDRINUSE, text, sizeof text), (long long)strlen(text));
    (void)snprintf(want, sizeof want, "127.0.0.1:%u is held by why-brief-test (pid %d, user ",
                   addr_port(&a), getpid());
    text[strlen(want)] = 0;
    CHECK_TEXT(text, want);
    (void)why_bind_failed(&a, EADDRINUSE, text, sizeof text);
    CHECK(strstr(text, "\nberth run -- COMMAND: ") != NULL);
    (void)fd_close(fd);
}

TEST("a conflict that is over by now is not blamed on anybody")
{
    struct addr a;
    char text[WHY_TEXT_MAX] = "";
    (void)fd_close(listener_open(&a));
    CHECK(why_bind_failed(&a, EADDRINUSE, text, sizeof text) > 0);
    CHECK(strstr(text, "nobody listens on 127.0.0.1:") == text);
    CHECK(strstr(text, "EADDRINUSE") != NULL);
}

TEST("the text is cut to the buffer, and Unix addresses have none")
{
    struct addr a;
    char text[8] = "1234567";
    int fd = listener_open(&a);
    CHECK_INT(why_bind_failed(&a, EADDRINUSE, text, sizeof text), 7);
    CHECK_TEXT(text, "127.0.0");
    CHECK_INT(why_bind_failed(&a, EADDRINUSE, text, 0), 0);
    CHECK_INT(addr_parse("unix:/x", &a), 0);
    CHECK_INT(why_bind_failed(&a, EADDRINUSE, text, sizeof text), 0);
    (void)fd_close(fd);
}
