#pragma once
/* Waits for what a pool was asked to become, with a word about it when that takes long. */

enum pool_wait { POOL_WAIT_READY, POOL_WAIT_REPLACED, POOL_WAIT_GONE };

/* How often its workers have failed until now; 0 when there is no such pool. */
long long pool_failures(const char *name);
/* More failures than `failures`, those before it was asked, mean that it will not become so.
 * CLI_OK, or CLI_TROUBLE after the reason was printed. */
int pool_wait(const char *name, enum pool_wait what, long long failures);
