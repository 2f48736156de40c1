/* Reads and writes the files of one group's folder, and what they say of its processes. */
#include "launch/cgroup-file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/cgroup.h"

int cgroup_file_write(int fd, const char *file, const char *text)
{
    CLEANUP_FD int f = openat(fd, file, O_WRONLY | O_CLOEXEC);
    size_t n = strlen(text);
    if (f < 0)
        return -errno;
    ssize_t done = write(f, text, n);
    if (done < 0)
        return -errno;
    return (size_t)done == n ? 0 : -EIO;
}

int cgroup_file_read(int fd, const char *file, char *buf, size_t size)
{
    CLEANUP_FD int f = openat(fd, file, O_RDONLY | O_CLOEXEC);
    ssize_t n = f < 0 ? -1 : read(f, buf, size - 1);
    if (n < 0)
        return -errno;
    buf[n] = 0;
    return 0;
}

int cgroup_file_number(int fd, const char *file, uint64_t *ret_number)
{
    char text[32], *end;
    int err = cgroup_file_read(fd, file, text, sizeof text);
    if (err < 0)
        return err;
    uint64_t number = strtoull(text, &end, 10);
    if (end == text)
        return -EPROTO;
    *ret_number = number;
    return 0;
}

int cgroup_memory(int fd, uint64_t *ret_bytes)
{
    return cgroup_file_number(fd, "memory.current", ret_bytes);
}

int cgroup_oom_kills(int fd, uint64_t *ret_kills)
{
    char text[512];
    int err = cgroup_file_read(fd, "memory.events", text, sizeof text);
    const char *line = err < 0 ? NULL : strstr(text, "oom_kill ");
    if (err == 0 && !line)
        return -EPROTO;
    if (err == 0)
        *ret_kills = strtoull(line + strlen("oom_kill "), NULL, 10);
    return err;
}

int cgroup_procs(int fd, pid_t **ret_pids, size_t *ret_count)
{
    CLEANUP_FD int file = openat(fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    FILE *f = file < 0 ? NULL : fdopen(file, "r");
    if (!f)
        return -errno;
    (void)fd_take(&file);
    pid_t *pids = NULL;
    size_t count = 0, room = 0;
    int pid, err = 0;
    while (err == 0 && fscanf(f, "%d", &pid) == 1) {
        if (count == room) {
            room = room ? 2 * room : 64;
            pid_t *more = realloc(pids, room * sizeof *pids);
            err = more ? 0 : -ENOMEM;
            pids = more ? more : pids;
        }
        if (err == 0)
            pids[count++] = pid;
    }
    (void)fclose(f);
    if (err < 0) {
        free(pids);
        return err;
    }
    *ret_pids = pids;
    *ret_count = count;
    return 0;
}

/* A process that forks while the list is read leaves a child that is not on it. */
static int kill_one_by_one(int fd)
{
    for (int tries = 0; tries < 10; tries++) {
        pid_t *pids;
        size_t count;
        int err = cgroup_procs(fd, &pids, &count);
        if (err < 0)
            return err;
        for (size_t i = 0; i < count; i++)
            (void)kill(pids[i], SIGKILL);
        free(pids);
        if (count == 0)
            return 0;
    }
    return 0;
}

int cgroup_kill(int fd)
{
    int err = cgroup_file_write(fd, "cgroup.kill", "1");
    /* Kernels before 5.14 have no such file. */
    return err == -ENOENT ? kill_one_by_one(fd) : err;
}
