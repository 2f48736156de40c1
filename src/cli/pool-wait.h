#pragma once
/* Waits for what a pool was asked to become, with a word about it when that takes long. */

enum pool_wait { POOL_WAIT_READY, POOL_WAIT_REPLACED, POOL_WAIT_GONE };

/* CLI_OK, or CLI_TROUBLE after the reason was printed. */
int pool_wait(const char *name, enum pool_wait what);
