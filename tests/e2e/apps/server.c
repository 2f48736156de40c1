/* A small HTTP server to be linked statically: one connection at a time comes in; out goes its
 * marker and who asked. Arguments: ADDRESS (IPv4) PORT MARKER. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_listener(const char *address, const char *port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    inet_pton(AF_INET, address, &in.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&in, sizeof in) < 0 || listen(fd, 16) < 0) {
        perror("listen");
        exit(1);
    }
    return fd;
}

static void serve(int fd, const struct sockaddr_in *peer, const char *marker)
{
    char head[4096], body[512], address[INET_ADDRSTRLEN];

    if (read(fd, head, sizeof head) > 0) {
        inet_ntop(AF_INET, &peer->sin_addr, address, sizeof address);
        snprintf(body, sizeof body, "%s peer=%s port=%d pid=%d\n", marker, address,
                 ntohs(peer->sin_port), (int)getpid());
        dprintf(fd, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n%s", body);
    }
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int listener = open_listener(argv[1], argv[2]);

    for (;;) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        int fd = accept(listener, (struct sockaddr *)&peer, &len);
        if (fd >= 0)
            serve(fd, &peer, argv[3]);
    }
}
