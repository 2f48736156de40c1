#pragma once
/* Verbs of the command line that berthd answers: one table says which function runs which verb, and
 * who may ask for it. */

#include <jansson.h>
#include <sys/socket.h>

#include "berthd/server.h"

#define COMMAND_ARGS_MAX   64
#define COMMAND_REASON_MAX 1024

/* Who may ask what. USER: this berthd's user, root, and programs of an application. LOCAL: these,
 * and of the system's berthd every local user. THEIRS: the same, and the verb itself looks whose it
 * is. OWNER: this
 * berthd's user and root. */
enum right {
    RIGHT_ANY,
    RIGHT_LOCAL,
    RIGHT_THEIRS,
    RIGHT_USER,
    RIGHT_APP,
    RIGHT_OWNER,
    RIGHT_COUNT
};

/* Who that is, in words. */
const char *right_name(enum right right);

struct client;

struct command_ask {
    struct client *client; /* whom COMMAND_LATER is for */
    const struct ucred *cred;
    const struct command *command;
    const char *args[COMMAND_ARGS_MAX]; /* point into the message */
    size_t arg_count;
    int *fd; /* that came with it, or -EBADF; whoever takes it leaves -EBADF */
};

struct command_answer {
    char *text; /* malloc()ed; NULL: none */
    int fd;     /* owned; -EBADF: none */
    char reason[COMMAND_REASON_MAX];
};

/* 0; -EBADMSG; -ENOENT for a verb that is not in the table. */
int command_parse(const struct appmsg *m, struct command_ask *ask, enum right *ret_right);
/* The tables, for `berth status --security`: command.c's and control.c's. */
json_t *command_rights_json(void);
json_t *control_rights_json(void);

/* The client gets its answer by control_answer_consume(). */
#define COMMAND_LATER 1

/* 0 with an answer, COMMAND_LATER, or a negative errno with a reason. */
int command_run(struct server *s, struct command_ask *ask, struct command_answer *ret_answer);

/* Verbs in files of their own. */
int command_logs(struct server *s, struct command_ask *ask, struct command_answer *ret_answer);
