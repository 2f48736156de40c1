/* The layers of dispatch's sandbox, tried in children: what was possible before is not any more. */
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "test.h"

/* The exit status of fn in a child. */
static int in_child(int (*fn)(void))
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(fn());
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                           : 99;
}

static int file_error(void)
{
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? 0 : errno;
}

static int bind_error(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return bind(fd, (struct sockaddr *)&any, sizeof any) == 0 ? 0 : errno;
}

static int landlocked(void)
{
    int abi = sandbox_landlock();
    if (abi < 0)
        return 77;
    if (file_error() != EACCES)
        return 1;
    return abi >= 4 && bind_error() != EACCES ? 2 : 0;
}

TEST("behind Landlock no file opens and no port is bound, where the kernel knows it")
{
    CHECK_INT(in_child(file_error), 0);
    CHECK_INT(in_child(bind_error), 0);
    int r = in_child(landlocked);
    CHECK(r == 0 || r == 77);
}

static int without_caps(void)
{
    char line[128];
    int found = 1;
    if (sandbox_no_caps() < 0)
        return geteuid() == 0 ? 2 : 0; /* Who has none may not drop them, and need not. */
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "CapBnd:\t0000000000000000", 24) == 0)
            found = 0;
    return found;
}

TEST("an emptied bounding set is empty for the kernel, too")
{
    CHECK_INT(in_child(without_caps), 0);
}

static int berthd_caps(void)
{
    return sandbox_berthd() < 0 ? 1 : file_error();
}

TEST("berthd with fewer capabilities still reads its files")
{
    CHECK_INT(in_child(berthd_caps), 0);
}
