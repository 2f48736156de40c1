/* The secrets of the applications that this user started, remembered in a file: a worker that gave
 * up its user's rights can prove to a new berthd that it belongs to one of them. One line each: the
 * secret in hexadecimal. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "berthd/server.h"
#include "ipc/runtime.h"

#define LINE_BYTES (2 * APPMSG_INSTANCE + 1)
/* Older ones are forgotten when berthd starts and there are more: about 8,000 applications. */
#define FILE_BYTES_MAX (8192 * LINE_BYTES)

static int file_open(int flags)
{
    char path[RUNTIME_PATH_MAX];
    int r = runtime_path(RUNTIME_INSTANCES, path);
    if (r < 0)
        return r;
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd;
}

static void line_format(const uint8_t instance[APPMSG_INSTANCE], char line[LINE_BYTES + 1])
{
    for (size_t i = 0; i < APPMSG_INSTANCE; i++)
        (void)snprintf(line + 2 * i, 3, "%02x", instance[i]);
    line[LINE_BYTES - 1] = '\n';
    line[LINE_BYTES] = 0;
}

void instances_start(void)
{
    struct stat st;
    CLEANUP_FD int fd = file_open(O_RDWR | O_CREAT);
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > FILE_BYTES_MAX && ftruncate(fd, 0) < 0)
        log_warn("list of applications not shortened err=%d", errno);
}

void instances_add(const uint8_t instance[APPMSG_INSTANCE])
{
    char line[LINE_BYTES + 1];
    if (instances_has(instance))
        return;
    CLEANUP_FD int fd = file_open(O_WRONLY | O_CREAT | O_APPEND);
    line_format(instance, line);
    if (fd < 0 || write(fd, line, LINE_BYTES) != LINE_BYTES)
        log_warn("application not remembered: its workers of other users may not attach again");
}

bool instances_has(const uint8_t instance[APPMSG_INSTANCE])
{
    char line[LINE_BYTES + 1], *bytes = NULL;
    struct stat st;
    bool found = false;
    CLEANUP_FD int fd = file_open(O_RDONLY);
    line_format(instance, line);
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 && (bytes = malloc((size_t)st.st_size))) {
        ssize_t n = read(fd, bytes, (size_t)st.st_size);
        for (ssize_t at = 0; at + LINE_BYTES <= n && !found; at += LINE_BYTES)
            found = memcmp(bytes + at, line, LINE_BYTES) == 0;
    }
    free(bytes);
    return found;
}
