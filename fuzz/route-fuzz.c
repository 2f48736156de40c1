/* The text of a route, from anywhere: parsing it, writing it and parsing that again must arrive at
 * the same value, and every refusal must say why. */
#include <stdint.h>
#include <stdlib.h>

#include "share/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_reason(const char *reason)
{
    size_t n = strnlen(reason, ROUTE_REASON_MAX);
    must(n > 0 && n < ROUTE_REASON_MAX);
    for (size_t i = 0; i < n; i++)
        must(reason[i] >= 0x20 && reason[i] < 0x7f);
}

static void check_fixpoint(const struct route *r)
{
    struct route again;
    char text[ROUTE_TEXT_MAX], second[ROUTE_TEXT_MAX], reason[ROUTE_REASON_MAX];
    must(route_format(r, text)[0] != 0);
    must(route_parse(text, &again, reason) == 0);
    must(route_same(r, &again));
    must(strcmp(route_format(&again, second), text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct route routes[2];
    char reason[ROUTE_REASON_MAX] = "";
    char *text = malloc(size + 1);
    must(text != NULL);
    memcpy(text, data, size);
    text[size] = 0;
    int n = route_expand(text, routes, reason);
    if (n < 0)
        check_reason(reason);
    for (int i = 0; i < n; i++)
        check_fixpoint(&routes[i]);
    if (route_parse(text, &routes[0], reason) == 0)
        check_fixpoint(&routes[0]);
    else
        check_reason(reason);
    free(text);
    return 0;
}
