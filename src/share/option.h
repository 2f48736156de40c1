#pragma once
/* Socket options that a program set on its listening socket and that the kernel would have handed
 * down to every accepted connection. Only those of a fixed table are taken from a program. */

#include <stdbool.h>
#include <stdint.h>

#define OPTION_VALUE_MAX 32

struct option_value {
    int level, name;
    uint8_t len;
    uint8_t value[OPTION_VALUE_MAX];
};

/* May a program have this set on its connections? */
bool option_allowed(int level, int name);
/* Best effort, as inheritance is: an option that this socket does not know is passed over. */
void option_apply(int fd, const struct option_value *o);
