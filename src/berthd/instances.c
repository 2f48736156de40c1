/* The secrets of the applications that were started, and by whom, remembered in a file: a worker
 * that gave up its user's rights can prove to a new berthd that it belongs to one of them. One line
 * each: the secret in hexadecimal, and the user's number. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "berthd/server.h"
#include "ipc/runtime.h"

#define SECRET_BYTES (2 * APPMSG_INSTANCE)
#define LINE_BYTES   (SECRET_BYTES + 12) /* a blank, ten digits, a line feed */
/* With more, those that live now are written anew, and the others forgotten. */
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

static void line_format(const uint8_t instance[APPMSG_INSTANCE], uid_t uid,
                        char line[LINE_BYTES + 1])
{
    (void)appmsg_instance_format(instance, line);
    (void)snprintf(line + SECRET_BYTES, 13, " %010u\n", uid);
}

static int line_write(int fd, const uint8_t instance[APPMSG_INSTANCE], uid_t uid)
{
    char line[LINE_BYTES + 1];
    line_format(instance, uid, line);
    return write(fd, line, LINE_BYTES) == LINE_BYTES ? 0 : -EIO;
}

static int write_all(const struct server *s, int fd)
{
    int err = ftruncate(fd, 0) < 0 ? -errno : 0;
    list_for_each(a, &s->apps, struct app, link) if (err == 0) err =
        line_write(fd, a->instance, a->uid);
    return err;
}

void instances_add(const struct server *s, const uint8_t instance[APPMSG_INSTANCE], uid_t uid)
{
    uid_t had;
    struct stat st;
    if (instances_find(instance, &had) == 0)
        return;
    CLEANUP_FD int fd = file_open(O_WRONLY | O_CREAT | O_APPEND);
    int err = fd < 0 || fstat(fd, &st) < 0 ? -EIO : 0;
    if (err == 0 && st.st_size > FILE_BYTES_MAX)
        err = write_all(s, fd);
    if (err == 0)
        err = line_write(fd, instance, uid);
    if (err < 0)
        log_warn("application not remembered: its workers of other users may not attach again");
}

int instances_find(const uint8_t instance[APPMSG_INSTANCE], uid_t *ret_uid)
{
    char line[LINE_BYTES + 1], *bytes = NULL;
    struct stat st;
    int found = -ENOENT;
    CLEANUP_FD int fd = file_open(O_RDONLY);
    line_format(instance, 0, line);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 ||
        !(bytes = malloc((size_t)st.st_size + 1)))
        return found;
    ssize_t n = read(fd, bytes, (size_t)st.st_size);
    bytes[n < 0 ? 0 : n] = 0;
    for (ssize_t at = 0; at + LINE_BYTES <= n && found < 0; at += LINE_BYTES) {
        if (memcmp(bytes + at, line, SECRET_BYTES) != 0)
            continue;
        *ret_uid = (uid_t)strtoul(bytes + at + SECRET_BYTES, NULL, 10);
        found = 0;
    }
    free(bytes);
    return found;
}
