/* Runs every TEST of the program it is linked into; exit status 1 when one failed. */
#include "test.h"

struct test_case *test_first;
bool test_failed;

void test_fail(const char *file, int line, const char *what, const char *got, const char *want)
{
    test_failed = true;
    (void)printf("# %s:%d: %s\n#   got  %s\n#   want %s\n", file, line, what, got, want);
}

int main(void)
{
    int failures = 0;
    for (struct test_case *t = test_first; t; t = t->next) {
        test_failed = false;
        t->run();
        (void)printf("%s - %s\n", test_failed ? "not ok" : "ok", t->name);
        failures += test_failed;
    }
    return failures > 0;
}
