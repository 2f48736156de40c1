#pragma once
/* The configuration for programs: every key with its value, times in milliseconds, sizes in bytes.
 */

#include <jansson.h>

#include "conf/conf.h"

json_t *conf_json(const struct conf *c);
/* [{file, line, section, key, message}] */
json_t *conf_json_errors(const struct conf_errors *e);
/* Prints and frees it. CLI_OK or CLI_TROUBLE. */
int conf_json_print(const char *verb, json_t *j);
