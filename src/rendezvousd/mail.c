/* Messages from one thread to a TCP connection of another's: a list under a lock, and an eventfd
 * that wakes its owner. Bytes come in and go out as they are. */
#include <stdlib.h>
#include <sys/eventfd.h>

#include "rendezvousd/thread.h"

/* What a thread has not fetched yet; the rest is dropped, as datagrams are. */
#define MAIL_MAX 4096

int mailbox_init(struct mailbox *b)
{
    list_init(&b->mails);
    b->count = 0;
    (void)pthread_mutex_init(&b->lock, NULL);
    b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return b->event_fd < 0 ? -errno : 0;
}

void mailbox_done(struct mailbox *b)
{
    for (struct mail *m; (m = mailbox_take(b));)
        free(m);
    b->event_fd = fd_close(b->event_fd);
    (void)pthread_mutex_destroy(&b->lock);
}

int mailbox_post(struct mailbox *b, uint64_t connection, bool relayed, struct str bytes)
{
    uint64_t one = 1;
    struct mail *m = malloc(sizeof *m + bytes.n);
    if (!m)
        return -ENOMEM;
    list_init(&m->link);
    m->connection = connection;
    m->relayed = relayed;
    m->n = bytes.n;
    memcpy(m->bytes, bytes.p, bytes.n);
    (void)pthread_mutex_lock(&b->lock);
    bool wake = b->count == 0, full = b->count >= MAIL_MAX;
    if (!full) {
        list_append(&b->mails, &m->link);
        b->count++;
    }
    (void)pthread_mutex_unlock(&b->lock);
    if (full) {
        free(m);
        return -EBUSY;
    }
    if (wake && write(b->event_fd, &one, sizeof one) < 0)
        return -errno;
    return 0;
}

struct mail *mailbox_take(struct mailbox *b)
{
    struct mail *m = NULL;
    (void)pthread_mutex_lock(&b->lock);
    if (!list_empty(&b->mails)) {
        m = container_of(b->mails.next, struct mail, link);
        list_remove(&m->link);
        b->count--;
    }
    (void)pthread_mutex_unlock(&b->lock);
    return m;
}
