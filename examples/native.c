/* A web server on a shared port, in C. It says who asked, and for what:
 *
 *     cc native.c -o native $(pkg-config --cflags --libs libberth)
 *     ./native http://native.localhost:8080/ &
 *     curl http://native.localhost:8080/hello
 */
#include <berth.h>

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void answer(int fd, const struct berth_conn *conn)
{
    char request[4096], who[NI_MAXHOST], port[NI_MAXSERV], text[4096];
    if (read(fd, request, sizeof request) <= 0)
        return;
    (void)getnameinfo((const struct sockaddr *)&conn->peer, conn->peer_len, who, sizeof who, port,
                      sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
                     "%s %s asks for %s%s by %s\n",
                     who, port, conn->host, conn->path, conn->protocol);
    if (n > 0 && write(fd, text, (size_t)n) != n)
        perror("native: write");
}

int main(int argc, char **argv)
{
    struct berth_conn conn = {.size = sizeof conn};
    struct berth *b = berth_new();
    if (!b || berth_attach(b, argc > 1 ? argv[1] : NULL, 0) < 0) {
        fprintf(stderr, "native: %s\n", b ? berth_reason(b) : "no memory");
        return 1;
    }
    for (;;) {
        int fd = berth_accept(b, &conn, 0);
        if (fd < 0) {
            fprintf(stderr, "native: %s\n", strerror(-fd));
            continue;
        }
        answer(fd, &conn);
        close(fd);
    }
}
