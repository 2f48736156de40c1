#pragma once
/* The text format of Prometheus, version 0.0.4. Families are begun and ended; samples of one family
 * that have the same labels are added up, because a series may stand there only once. */

#include <stddef.h>

struct exposition_sample {
    char *labels; /* owned; without the braces */
    double value;
};

struct exposition {
    char *text; /* owned until exposition_finish() */
    size_t used, size;
    const char *name; /* of the family that is open */
    struct exposition_sample *samples;
    size_t sample_count, sample_size;
    int failed; /* negative errno of the first thing that failed */
};

struct exposition_label {
    const char *name, *value;
};

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

void exposition_begin(struct exposition *e, const char *name, const char *type, const char *help);
/* The labels end with one without a name; NULL: none. */
void exposition_add(struct exposition *e, const struct exposition_label *labels, double value);
void exposition_end(struct exposition *e);
/* A family of one sample without labels. */
void exposition_one(struct exposition *e, const char *name, const char *type, const char *help,
                    double value);
/* The text, malloc()ed; NULL when memory was short. Frees everything else. */
char *exposition_finish(struct exposition *e);
