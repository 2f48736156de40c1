/* The table of reasons, and that the manual has all of them. */
#include <ctype.h>
#include <stdlib.h>

#include "share/board.h"
#include "share/reason.h"
#include "test.h"

TEST("every reason has a word of its own, which finds it again, a sentence and a status")
{
    CHECK(REASON_COUNT <= BOARD_REASONS_MAX);
    for (unsigned i = REASON_NONE + 1; i < REASON_COUNT; i++) {
        const struct reason_info *r = reason_info(i);
        CHECK(r->word && isupper(r->word[0]) && r->sentence);
        CHECK_INT(reason_find(r->word), i);
        CHECK(r->status >= 400 && r->status < 600);
        CHECK(strcmp(reason_phrase(r->status), "Refused") != 0);
    }
}

TEST("what is no reason is none")
{
    CHECK_INT(reason_find("Nonsense"), REASON_NONE);
    CHECK_INT(reason_find(NULL), REASON_NONE);
    CHECK_TEXT(reason_word(REASON_COUNT), "-");
    CHECK_TEXT(reason_word(255), "-");
    CHECK_TEXT(reason_phrase(499), "Refused");
}

TEST("the manual explains every reason")
{
    static char text[65536];
    FILE *f = fopen(MANUAL, "r");
    CHECK(f != NULL);
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    CHECK(n > 0 && n < sizeof text - 1);
    for (unsigned i = REASON_NONE + 1; i < REASON_COUNT; i++) {
        char row[64];
        (void)snprintf(row, sizeof row, "\n|  %s\n:  ", reason_word(i));
        if (!strstr(text, row))
            test_fail(__FILE__, __LINE__, reason_word(i), "missing", "a row of the table");
    }
    if (f)
        (void)fclose(f);
}
