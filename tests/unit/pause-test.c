/* How long a peer rests between introductions that find nothing. */
#include "peerd/pause.h"

#include "test.h"

#define MINUTES_5 300000
#define HOUR      3600000

TEST("the first failure is followed at once, later ones after twice as long, then once an hour")
{
    static const int ms[] = {10, 2000, 4000, 8000, 16000, 32000, 64000, 128000, 256000};
    for (unsigned i = 0; i < sizeof ms / sizeof ms[0]; i++)
        CHECK_INT(pause_ms(PATH_HOPE, i), ms[i]);
    CHECK_INT(pause_ms(PATH_HOPE, 9), MINUTES_5);
    CHECK_INT(pause_ms(PATH_HOPE, 10), HOUR);
    CHECK_INT(pause_ms(PATH_HOPE, 1000000), HOUR);
}

TEST("guesses that mostly work have a third chance soon, and spare others after that")
{
    CHECK_INT(pause_ms(PATH_GUESS_HOPE, 0), 10);
    CHECK_INT(pause_ms(PATH_GUESS_HOPE, 1), 1000);
    CHECK_INT(pause_ms(PATH_GUESS_HOPE, 2), 15000);
    CHECK_INT(pause_ms(PATH_GUESS_HOPE, 3), 30000);
    CHECK_INT(pause_ms(PATH_GUESS_HOPE, 50), HOUR);
    CHECK_INT(pause_ms(PATH_LITTLE_HOPE, 1), 15000);
}

TEST("where nothing can be hoped there is no hurry")
{
    CHECK_INT(pause_ms(PATH_NO_HOPE, 0), 60000);
    CHECK_INT(pause_ms(PATH_NO_HOPE, 1), MINUTES_5);
    CHECK_INT(pause_ms(PATH_NO_HOPE, 2), HOUR);
    CHECK_INT(pause_ms(PATH_ROUTER_HOPE, 0), 2500);
}
