#pragma once
/* The whole screen of a terminal, taken and given back as it was. */

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

struct terminal {
    bool taken;
    struct termios before;
};

/* Another screen, no cursor, keys without Enter; signals still come from the keyboard. Negative
 * errno when standard input and output are no terminal. */
int terminal_take(struct terminal *t);
/* Harmless when it was not taken, and a second time. */
void terminal_give_back(struct terminal *t);
/* 24 by 80 when the terminal does not say. */
void terminal_size(unsigned *ret_rows, unsigned *ret_columns);

enum terminal_key { KEY_NONE, KEY_END, KEY_UP, KEY_DOWN, KEY_LEFT, KEY_RIGHT };
/* What was pressed: a letter, one of the above (KEY_END: the terminal is gone), or KEY_NONE. */
int terminal_key(void);
