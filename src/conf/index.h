#pragma once
/* Texts to numbers, by hash: no search through 100,000 applications is linear. */

#include <stddef.h>
#include <stdint.h>

#include "base/fd.h"

#define CONF_INDEX_NONE UINT32_MAX

struct conf_index;

struct conf_index *conf_index_new(void);
void conf_index_free(struct conf_index *x);
/* CONF_INDEX_NONE when there is none. */
uint32_t conf_index_find(const struct conf_index *x, const char *text);
/* Keeps a copy of text. The number that is there already, or CONF_INDEX_NONE when `number` has been
 * put there, or -ENOMEM. */
int64_t conf_index_add(struct conf_index *x, const char *text, uint32_t number) WARN_UNUSED;
