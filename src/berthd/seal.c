/* The seal on what dispatch keeps for berthd. Dispatch gives each note back to the next berthd; who
 * has taken dispatch over could give back another one, with other users, names and addresses. So a
 * note ends in a keyed hash, whose key is in a file that dispatch cannot reach. */
#include <fcntl.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/siphash.h"
#include "base/wr.h"
#include "berthd/server.h"
#include "ipc/runtime.h"

#define SEALED_MAX 32768

/* The key of the berthd before us, or a new one. */
int seal_start(struct server *s)
{
    char path[RUNTIME_PATH_MAX];
    int r = runtime_path(RUNTIME_KEY, path);
    if (r < 0)
        return r;
    CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    if (read(fd, s->seal_key, sizeof s->seal_key) == sizeof s->seal_key)
        return 0;
    if (getrandom(s->seal_key, sizeof s->seal_key, 0) != sizeof s->seal_key)
        return -EIO;
    /* Without the file the next berthd cannot take over, but this one serves. */
    if (ftruncate(fd, 0) < 0 ||
        pwrite(fd, s->seal_key, sizeof s->seal_key, 0) != sizeof s->seal_key)
        log_warn("key not kept: a successor cannot take over err=%d", errno);
    return 0;
}

static void tag_make(const struct server *s, uint32_t id, const void *bytes, size_t n,
                     uint8_t tag[SIPHASH_TAG])
{
    uint8_t buf[SEALED_MAX];
    struct wr w = wr_init(buf, sizeof buf);
    wr_u32(&w, id);
    wr_bytes(&w, bytes, n);
    siphash128(s->seal_key, buf, w.used, tag);
}

size_t seal_put(const struct server *s, uint32_t id, uint8_t *note, size_t n, size_t size)
{
    if (n == 0 || n + SIPHASH_TAG > size)
        return 0;
    tag_make(s, id, note, n, note + n);
    return n + SIPHASH_TAG;
}

bool seal_check(const struct server *s, uint32_t id, struct str *note)
{
    uint8_t tag[SIPHASH_TAG], differs = 0;
    if (note->n <= SIPHASH_TAG || note->n > SEALED_MAX - sizeof id)
        return false;
    size_t n = note->n - SIPHASH_TAG;
    tag_make(s, id, note->p, n, tag);
    /* All of it, whatever differs first: the time tells nothing. */
    for (size_t i = 0; i < SIPHASH_TAG; i++)
        differs |= tag[i] ^ (uint8_t)note->p[n + i];
    note->n = n;
    return differs == 0;
}
