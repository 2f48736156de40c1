/* berth-upnp: asks a router of the LAN for a port by UPnP-IGD. A port comes in on the command line,
 * one line goes out: `mapped ADDRESS:PORT` or `failed WORD`. It is a program of its own because of
 * the XML that it parses: request.c says what it gives up first. */
#include <stdio.h>
#include <string.h>

#include "request.h"

int main(int argc, char **argv)
{
    struct request q;
    char answer[ANSWER_MAX];
    if (argc == 2 && strcmp(argv[1], "--serve") == 0)
        return serve();
    if (!request_read(argc > 0 ? (size_t)argc - 1 : 0, argv + 1, &q)) {
        (void)fputs("usage: berth-upnp add udp|tcp PORT SECONDS | remove udp|tcp PORT | --serve\n",
                    stderr);
        return 2;
    }
    bool good = request_run(&q, answer);
    (void)puts(answer);
    return good ? 0 : 1;
}
