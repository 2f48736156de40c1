#pragma once
/* The answer of `berth why` for programs. */

#include <stdio.h>

#include "why/why.h"

/* Writes one JSON object and a newline. -ENOMEM or -EIO. */
int why_json_print(const struct why_report *r, const struct why_answer *a, FILE *f) WARN_UNUSED;
