#pragma once
/* The inside of reading, shared by load.c (files and folders), read.c (lines, sections, keys),
 * check.c and claims.c (what only several keys together tell). */

#include "conf/conf.h"
#include "conf/index.h"
#include "conf/schema.h"
#include "conf/words.h"

#define CONF_SECTION_SHOWN 96

/* Everything here is the reader's own, but what is said to be borrowed. */
struct conf_reader {
    struct conf *conf;          /* what is being built */
    struct conf_errors *errors; /* borrowed */
    struct conf_words *words;
    struct conf_index *reserved; /* canonical route to number of the reservation */
    struct conf_index *claims;   /* route and address to number of the application */
    struct conf_app app;         /* the defaults */
    struct conf_reserve reserve;
    const char *file; /* borrowed from conf->files */
    unsigned line;
    bool short_of_memory;

    /* The section that lines belong to now. */
    const struct conf_schema
        *schema;  /* NULL: none, or an unknown one, whose keys are passed over */
    void *object; /* borrowed: the struct whose fields the keys are */
    bool passed_over;
    uint64_t bad;          /* keys that have been complained about */
    unsigned lines[64];    /* of each key; of the first, where a key is repeated */
    unsigned *route_lines; /* of each route */
    size_t route_room;
    char shown[CONF_SECTION_SHOWN];
};

/* Adds an error at the reader's file and section. The sentence may quote what the user wrote: what
 * cannot be printed becomes a question mark. */
void conf_complain(struct conf_reader *r, unsigned line, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same for any place. -ENOMEM. */
int conf_errors_add(struct conf_errors *e, const struct conf_error *error) WARN_UNUSED;

/* Reads all lines of a text into r->conf. */
void conf_lines_read(struct conf_reader *r, struct str text);
/* Called when a section has been read: what its keys say together. */
void conf_section_check(struct conf_reader *r);
/* The same, for an application: does it claim what another one that was read before does? */
void conf_claims_check(struct conf_reader *r, const struct conf_app *app);

/* Fills an empty struct of the section with its defaults, which own nothing. -ENOMEM. */
int conf_defaults(enum conf_section section, struct conf_words *words, void *object) WARN_UNUSED;
/* Frees what the fields own. */
void conf_object_done(enum conf_section section, void *object);
/* Which line said this key; the section's own when none did. */
unsigned conf_line_of(const struct conf_reader *r, const char *key);
bool conf_is_given(const struct conf_reader *r, const char *key);
/* Has it been complained about? Then nothing follows from its value. */
bool conf_is_bad(const struct conf_reader *r, const char *key);
