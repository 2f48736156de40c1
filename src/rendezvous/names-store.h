#pragma once
/* The names in SQLite, for keeps. Changing one is a job for a thread of the store's own, so that
 * nobody who serves waits for a disk. */

#include "rendezvous/job.h"
#include "rendezvous/names.h"

struct names_store;

/* Opens or makes names.db in the folder, fills the memory from it and starts the thread. trouble
 * gets a sentence. The names outlive the store. */
int names_store_open(const char *folder, struct names *names, struct names_store **ret_store,
                     char *trouble, size_t size) WARN_UNUSED;
/* Finishes the jobs that wait and ends the thread; from then on no more are taken. */
void names_store_stop(struct names_store *s);
void names_store_free(struct names_store *s); /* after it was stopped */
/* Takes the job over. -EBUSY when too many wait: the job stays the caller's. */
int names_store_post(struct names_store *s, struct job *job) WARN_UNUSED;
