#pragma once
/* A runtime folder for one test. */

#include "test.h"

#include <stdlib.h>
#include <unistd.h>

#define FOLDER_MAX 64

/* A new, empty folder that is the runtime folder from now on. */
static void folder_new(char folder[FOLDER_MAX])
{
    (void)snprintf(folder, FOLDER_MAX, "/tmp/berth-unit-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    CHECK_INT(setenv("BERTH_RUNTIME_DIR", folder, 1), 0);
}

static void folder_done(const char *folder, const char *file)
{
    char path[FOLDER_MAX + 32];
    if (file) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, file);
        CHECK_INT(unlink(path), 0);
    }
    /* Fails, and so the test, when something else was left in it. */
    CHECK_INT(rmdir(folder), 0);
}
