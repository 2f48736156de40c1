#pragma once
/* What `berth top` shows: one row an application, made from berthd's report of a moment; rates come
 * from two of them. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TOP_NAME_MAX  64
#define TOP_STATE_MAX 16
#define TOP_UNKNOWN   (-1.0)

enum top_key {
    TOP_NAME,
    TOP_STATE,
    TOP_WORKERS,
    TOP_OPEN,
    TOP_RATE,
    TOP_WAITING,
    TOP_REFUSED,
    TOP_MEMORY,
    TOP_CPU,
    TOP_AGE,
    TOP_KEY_COUNT
};

struct top_worker {
    pid_t pid;
    double cpu_ms;
};

/* Numbers that are not known are TOP_UNKNOWN. */
struct top_row {
    char name[TOP_NAME_MAX], state[TOP_STATE_MAX];
    pid_t pid; /* of `berth run`; 0 for a pool */
    double workers, workers_max;
    double delivered, refused;    /* so far */
    double values[TOP_KEY_COUNT]; /* by column; of name and state unused */
    struct top_worker *processes; /* owned */
    size_t process_count;
};

struct top_table {
    double at_ms; /* of a clock that only goes on */
    struct top_row *rows;
    size_t count;
    struct top_row total;
};

/* How a process is doing: processor time, resident memory and age. False when it is gone. */
bool top_process(pid_t pid, double *ret_cpu_ms, double *ret_memory, double *ret_age_ms);

/* 0; -EPROTO when the report makes no sense; -ENOMEM. unix_ms is the time of day. */
int top_read(const json_t *list, double at_ms, double unix_ms, struct top_table *ret_table);
void top_free(struct top_table *t);
void top_rates(struct top_table *now, const struct top_table *before);
/* The largest first, names and states from A on; the other way round when `reverse` says so. */
void top_sort(struct top_table *t, enum top_key key, bool reverse);

/* One column of a row as text. */
#define TOP_TEXT_MAX 72
const char *top_text(const struct top_row *r, enum top_key key, char buf[TOP_TEXT_MAX]);
json_t *top_json(const struct top_table *t);
