/* Finished jobs on their way back: any thread puts them into an outbox, its owner is woken by the
 * eventfd and takes them out. */
#include "rendezvous/job.h"

#include <stdlib.h>
#include <sys/eventfd.h>

int outbox_init(struct outbox *o)
{
    list_init(&o->jobs);
    (void)pthread_mutex_init(&o->lock, NULL);
    o->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return o->event_fd < 0 ? -errno : 0;
}

struct job *outbox_take(struct outbox *o)
{
    struct job *job = NULL;
    (void)pthread_mutex_lock(&o->lock);
    if (!list_empty(&o->jobs)) {
        job = container_of(o->jobs.next, struct job, link);
        list_remove(&job->link);
    }
    (void)pthread_mutex_unlock(&o->lock);
    return job;
}

void outbox_done(struct outbox *o)
{
    for (struct job *job; (job = outbox_take(o));)
        free(job);
    o->event_fd = fd_close(o->event_fd);
    (void)pthread_mutex_destroy(&o->lock);
}

void job_done(struct job *job)
{
    struct outbox *o = job->outbox;
    uint64_t one = 1;
    (void)pthread_mutex_lock(&o->lock);
    list_append(&o->jobs, &job->link);
    (void)pthread_mutex_unlock(&o->lock);
    ssize_t written = write(o->event_fd, &one, sizeof one);
    (void)written;
}
