#pragma once
/* The smallest test frame that names what it checks: TEST("a sentence") { ... } and comparisons
 * that print both sides. Output is one line a test, "ok - sentence" or "not ok - sentence". */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct test_case {
    const char *name;
    void (*run)(void);
    struct test_case *next;
};

extern struct test_case *test_first;
extern bool test_failed;

#define TEST_JOIN2(a, b) a##b
#define TEST_JOIN(a, b)  TEST_JOIN2(a, b)
#define TEST(sentence)                                                                             \
    static void TEST_JOIN(test_fn_, __LINE__)(void);                                               \
    static struct test_case TEST_JOIN(test_case_,                                                  \
                                      __LINE__) = {sentence, TEST_JOIN(test_fn_, __LINE__), NULL}; \
    __attribute__((constructor)) static void TEST_JOIN(test_add_, __LINE__)(void)                  \
    {                                                                                              \
        struct test_case **at = &test_first;                                                       \
        while (*at)                                                                                \
            at = &(*at)->next;                                                                     \
        *at = &TEST_JOIN(test_case_, __LINE__);                                                    \
    }                                                                                              \
    static void TEST_JOIN(test_fn_, __LINE__)(void)

void test_fail(const char *file, int line, const char *what, const char *got, const char *want);

/* A false condition fails the test and lets it go on. */
#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            test_fail(__FILE__, __LINE__, #cond, "false", "true");                                 \
    } while (0)

#define CHECK_INT(got, want)                                                                       \
    do {                                                                                           \
        long long got_ = (long long)(got), want_ = (long long)(want);                              \
        char g_[32], w_[32];                                                                       \
        (void)snprintf(g_, sizeof g_, "%lld", got_);                                               \
        (void)snprintf(w_, sizeof w_, "%lld", want_);                                              \
        if (got_ != want_)                                                                         \
            test_fail(__FILE__, __LINE__, #got, g_, w_);                                           \
    } while (0)

#define CHECK_TEXT(got, want)                                                                      \
    do {                                                                                           \
        const char *got_ = (got), *want_ = (want);                                                 \
        if (!got_ || strcmp(got_, want_) != 0)                                                     \
            test_fail(__FILE__, __LINE__, #got, got_ ? got_ : "(null)", want_);                    \
    } while (0)

/* For struct str. */
#define CHECK_STR(got, want)                                                                       \
    do {                                                                                           \
        char g_[512];                                                                              \
        (void)snprintf(g_, sizeof g_, "%.*s", (int)(got).n, (got).p ? (got).p : "");               \
        CHECK_TEXT(g_, want);                                                                      \
    } while (0)
