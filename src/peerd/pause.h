#pragma once
/* How long a peer rests between an introduction whose checks found nothing and the next. */

#include <stdint.h>

/* What is hoped of the next: something, by checks alone or by guesses that have mostly worked
 * between such NATs; little, by guesses, which wear out what others need, too; something when the
 * other side's router has been asked for a port; nothing unless something changes. */
enum path_hope {
    PATH_HOPE,
    PATH_GUESS_HOPE,
    PATH_LITTLE_HOPE,
    PATH_ROUTER_HOPE,
    PATH_NO_HOPE,
    PATH_HOPES,
};

/* After so many failures before this one, in a row. */
uint64_t pause_ms(enum path_hope hope, unsigned failures);
