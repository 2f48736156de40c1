#include "berthd/server.h"
#include "test.h"

#include <stdlib.h>

TEST("numbers are dealt out from zero, and there are only so many")
{
    struct numbers n;
    numbers_init(&n, 3);
    CHECK_INT(numbers_take(&n), 0);
    CHECK_INT(numbers_take(&n), 1);
    CHECK_INT(numbers_take(&n), 2);
    CHECK_INT(numbers_take(&n), UINT32_MAX);
    numbers_give(&n, 1);
    CHECK_INT(numbers_take(&n), 1);
    CHECK_INT(numbers_take(&n), UINT32_MAX);
    free(n.free);
}

TEST("a thousand numbers that come and go never meet and stay small")
{
    enum { HELD = 500, TURNS = 20000 };
    struct numbers n;
    static uint32_t held[HELD];
    static bool taken[1000];
    size_t count = 0;
    uint32_t seed = 1;
    numbers_init(&n, 1000);
    for (size_t i = 0; i < TURNS; i++) {
        seed = seed * 1103515245 + 12345;
        if (count < HELD && seed >> 30) {
            uint32_t number = numbers_take(&n);
            CHECK(number < HELD && !taken[number]);
            taken[number] = true;
            held[count++] = number;
        } else if (count > 0) {
            uint32_t number = held[seed % count];
            held[seed % count] = held[count - 1];
            count--;
            taken[number] = false;
            numbers_give(&n, number);
        }
    }
    free(n.free);
}

TEST("a reserved number is not dealt out, those around it are")
{
    struct numbers n;
    bool seen[10] = {false};
    numbers_init(&n, 10);
    numbers_reserve(&n, 5);
    numbers_reserve(&n, 2);
    numbers_reserve(&n, 5);
    for (size_t i = 0; i < 8; i++) {
        uint32_t number = numbers_take(&n);
        CHECK(number < 10 && !seen[number]);
        if (number < 10)
            seen[number] = true;
    }
    CHECK(!seen[5]);
    CHECK(!seen[2]);
    CHECK_INT(numbers_take(&n), UINT32_MAX);
    free(n.free);
}
