/* The names on disk, and the one thread that changes them. Jobs come in by a bounded list; the
 * thread takes all that wait into one transaction, so that many claims cost one flush of the disk,
 * shows the changes to the names in memory when they are safe, and hands the jobs back. What has
 * been answered with DONE has been flushed. */
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "rendezvous/names-store.h"

#define WAITING_MAX 1024
#define BATCH_MAX   256
/* How long a second server on one folder is waited for before we give up. */
#define BUSY_MS 500

enum statement { BEGIN, COMMIT, ROLLBACK, FIND, COUNT, INSERT, DELETE, LIST, STATEMENT_COUNT };

static const char *const sql[STATEMENT_COUNT] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [FIND] = "SELECT key, since FROM names WHERE name = ?1",
    [COUNT] = "SELECT count(*) FROM names WHERE key = ?2",
    [INSERT] = "INSERT INTO names (name, key, since) VALUES (?1, ?2, ?3)",
    [DELETE] = "DELETE FROM names WHERE name = ?1",
    [LIST] = "SELECT name FROM names WHERE key = ?2 ORDER BY name",
};

/* WAL and FULL: a transaction that has been committed survives the death of the process and of the
 * machine. EXCLUSIVE: a second server on the same folder is refused, and no file is shared. */
static const char schema[] = "PRAGMA locking_mode = EXCLUSIVE;"
                             "PRAGMA journal_mode = WAL;"
                             "PRAGMA synchronous = FULL;"
                             "PRAGMA temp_store = MEMORY;"
                             "CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY NOT NULL,"
                             " key BLOB NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID;"
                             "CREATE INDEX IF NOT EXISTS names_of_key ON names (key);";

struct names_store {
    sqlite3 *db; /* the thread's, once it runs */
    sqlite3_stmt *statements[STATEMENT_COUNT];
    struct names *names;
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t more;
    struct list waiting;
    size_t waiting_count;
    bool stopping;
};

/* The statement with the job's name, key and time in it, as far as it asks for them. */
static sqlite3_stmt *prepared(struct names_store *s, enum statement which, const struct job *job)
{
    sqlite3_stmt *st = s->statements[which];
    (void)sqlite3_reset(st);
    int n = sqlite3_bind_parameter_count(st);
    if (n >= 1)
        (void)sqlite3_bind_text(st, 1, job->name, job->name_n, SQLITE_STATIC);
    if (n >= 2)
        (void)sqlite3_bind_blob(st, 2, job->key, RDVMSG_KEY, SQLITE_STATIC);
    if (n >= 3)
        (void)sqlite3_bind_int64(st, 3, (sqlite3_int64)job->unix_s);
    return st;
}

static enum rdv_reason run(struct names_store *s, enum statement which, const struct job *job)
{
    sqlite3_stmt *st = prepared(s, which, job);
    int r = sqlite3_step(st);
    (void)sqlite3_reset(st);
    return r == SQLITE_DONE ? RDV_OK : RDV_STORAGE;
}

/* RDV_OK (the job's key holds it), RDV_NOT_OWNER (another does), RDV_UNKNOWN_NAME, RDV_STORAGE. */
static enum rdv_reason holder(struct names_store *s, struct job *job)
{
    sqlite3_stmt *st = prepared(s, FIND, job);
    int r = sqlite3_step(st);
    enum rdv_reason reason = r == SQLITE_DONE ? RDV_UNKNOWN_NAME : RDV_STORAGE;
    if (r == SQLITE_ROW) {
        const void *key = sqlite3_column_blob(st, 0);
        bool own = key && sqlite3_column_bytes(st, 0) == RDVMSG_KEY &&
                   memcmp(key, job->key, RDVMSG_KEY) == 0;
        job->since = (uint64_t)sqlite3_column_int64(st, 1);
        reason = own ? RDV_OK : RDV_NOT_OWNER;
    }
    (void)sqlite3_reset(st);
    return reason;
}

static enum rdv_reason claim(struct names_store *s, struct job *job)
{
    enum rdv_reason reason = holder(s, job);
    if (reason == RDV_NOT_OWNER)
        return RDV_NAME_TAKEN;
    if (reason != RDV_UNKNOWN_NAME)
        return reason;
    if (names_full(s->names))
        return RDV_FULL;
    sqlite3_stmt *st = prepared(s, COUNT, job);
    int held = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int(st, 0) : -1;
    (void)sqlite3_reset(st);
    if (held < 0)
        return RDV_STORAGE;
    if (held >= RDVMSG_NAMES_MAX)
        return RDV_TOO_MANY_NAMES;
    job->since = job->unix_s;
    return run(s, INSERT, job);
}

static enum rdv_reason release(struct names_store *s, struct job *job)
{
    enum rdv_reason reason = holder(s, job);
    return reason == RDV_OK ? run(s, DELETE, job) : reason;
}

static enum rdv_reason list(struct names_store *s, struct job *job)
{
    sqlite3_stmt *st = prepared(s, LIST, job);
    int r = SQLITE_DONE;
    while (job->held_count < RDVMSG_NAMES_MAX && (r = sqlite3_step(st)) == SQLITE_ROW) {
        int n = sqlite3_column_bytes(st, 0);
        if (n <= 0 || n > RECORD_NAME_MAX)
            continue;
        memcpy(job->held[job->held_count], sqlite3_column_text(st, 0), (size_t)n);
        job->held_n[job->held_count++] = (uint8_t)n;
    }
    (void)sqlite3_reset(st);
    return r == SQLITE_DONE || r == SQLITE_ROW ? RDV_OK : RDV_STORAGE;
}

static enum rdv_reason job_run(struct names_store *s, struct job *job)
{
    switch (job->type) {
    case RDVMSG_CLAIM:
        return claim(s, job);
    case RDVMSG_RELEASE:
        return release(s, job);
    default:
        return list(s, job);
    }
}

/* After the commit. A name that memory has no room for is safe on disk and shown after a restart.
 */
static void job_show(struct names_store *s, struct job *job)
{
    struct str name = {job->name, job->name_n};
    if (job->reason != RDV_OK)
        return;
    if (job->type == RDVMSG_CLAIM && names_put(s->names, name, job->key, job->since) < 0)
        job->reason = RDV_FULL;
    if (job->type == RDVMSG_RELEASE)
        names_remove(s->names, name);
}

static void batch_run(struct names_store *s, struct list *batch)
{
    bool open = run(s, BEGIN, NULL) == RDV_OK;
    list_for_each(job, batch, struct job, link)
    {
        job->reason = open ? job_run(s, job) : RDV_STORAGE;
    }
    if (open && run(s, COMMIT, NULL) != RDV_OK) {
        (void)run(s, ROLLBACK, NULL);
        open = false;
    }
    list_for_each(job, batch, struct job, link)
    {
        if (!open)
            job->reason = RDV_STORAGE;
        job_show(s, job);
        list_remove(&job->link);
        job_done(job);
    }
}

/* Waits for jobs; false when there are none and no more will come. */
static bool batch_take(struct names_store *s, struct list *batch)
{
    size_t n = 0;
    (void)pthread_mutex_lock(&s->lock);
    while (s->waiting_count == 0 && !s->stopping)
        (void)pthread_cond_wait(&s->more, &s->lock);
    for (; n < BATCH_MAX && s->waiting_count > 0; n++, s->waiting_count--) {
        struct list *first = s->waiting.next;
        list_remove(first);
        list_append(batch, first);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return n > 0;
}

static void *serve(void *context)
{
    struct names_store *s = context;
    struct list batch;
    list_init(&batch);
    while (batch_take(s, &batch))
        batch_run(s, &batch);
    return NULL;
}

int names_store_post(struct names_store *s, struct job *job)
{
    (void)pthread_mutex_lock(&s->lock);
    bool room = s->waiting_count < WAITING_MAX && !s->stopping;
    if (room) {
        list_append(&s->waiting, &job->link);
        s->waiting_count++;
        (void)pthread_cond_signal(&s->more);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return room ? 0 : -EBUSY;
}

/* Everything on disk comes into memory. A row that breaks the rules is passed over. */
static int load(struct names_store *s)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(s->db, "SELECT name, key, since FROM names", -1, &st, NULL) != SQLITE_OK)
        return -EIO;
    int r, e = 0;
    while (e == 0 && (r = sqlite3_step(st)) == SQLITE_ROW) {
        struct str name = {(const char *)sqlite3_column_text(st, 0),
                           (size_t)sqlite3_column_bytes(st, 0)};
        const void *key = sqlite3_column_blob(st, 1);
        if (record_name_valid(name) && key && sqlite3_column_bytes(st, 1) == RDVMSG_KEY)
            e = names_put(s->names, name, key, (uint64_t)sqlite3_column_int64(st, 2));
    }
    (void)sqlite3_finalize(st);
    return e < 0 ? e : r == SQLITE_DONE ? 0 : -EIO;
}

void names_store_free(struct names_store *s)
{
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        (void)sqlite3_finalize(s->statements[i]);
    (void)sqlite3_close(s->db);
    (void)pthread_mutex_destroy(&s->lock);
    (void)pthread_cond_destroy(&s->more);
    free(s);
}

static int db_open(struct names_store *s, const char *path)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK)
        return -EIO;
    (void)sqlite3_busy_timeout(s->db, BUSY_MS);
    int r = sqlite3_exec(s->db, schema, NULL, NULL, NULL);
    if (r != SQLITE_OK)
        return r == SQLITE_BUSY ? -EBUSY : -EIO;
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        if (sqlite3_prepare_v2(s->db, sql[i], -1, &s->statements[i], NULL) != SQLITE_OK)
            return -EIO;
    return 0;
}

static void explain(int r, const char *path, const struct names_store *s, char *trouble,
                    size_t size)
{
    if (r == -EBUSY)
        (void)snprintf(trouble, size, "%s is in use by another server", path);
    else
        (void)snprintf(trouble, size, "%s: %s", path, s->db ? sqlite3_errmsg(s->db) : strerror(-r));
}

int names_store_open(const char *folder, struct names *names, struct names_store **ret_store,
                     char *trouble, size_t size)
{
    char path[4096];
    struct names_store *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->names = names;
    list_init(&s->waiting);
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->more, NULL);
    (void)snprintf(path, sizeof path, "%s/names.db", folder);
    int r = db_open(s, path);
    if (r == 0)
        r = load(s);
    if (r == 0)
        r = -pthread_create(&s->thread, NULL, serve, s);
    if (r < 0) {
        explain(r, path, s, trouble, size);
        names_store_free(s);
        return r;
    }
    *ret_store = s;
    return 0;
}

void names_store_stop(struct names_store *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->stopping = true;
    (void)pthread_cond_signal(&s->more);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
}
