/* How many descriptors the ways between peers take. */
#include "peerd/budget.h"

#include "test.h"

TEST("ways take a quarter of the descriptors, attempts leave a quarter of these to what stands")
{
    struct budget b;
    budget_init(&b, 1024);
    size_t attempts = 0, ways = 0;
    while (budget_take(&b, BUDGET_ATTEMPT))
        attempts++;
    CHECK_INT(attempts, 192);
    CHECK(!budget_has(&b, BUDGET_ATTEMPT));
    CHECK(budget_has(&b, BUDGET_WAY));
    while (budget_take(&b, BUDGET_WAY))
        ways++;
    CHECK_INT(ways, 64);
    budget_give(&b);
    CHECK(!budget_take(&b, BUDGET_ATTEMPT));
    CHECK(budget_take(&b, BUDGET_WAY));
}

TEST("what is given back is there again")
{
    struct budget b;
    budget_init(&b, 16);
    for (int i = 0; i < 100; i++) {
        CHECK(budget_take(&b, BUDGET_ATTEMPT));
        budget_give(&b);
    }
    CHECK_INT(b.used, 0);
}
