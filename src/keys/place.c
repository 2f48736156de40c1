/* The environment says where the key is; all else of an identity is in the same folder. */
#include "keys/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int key_file(char *buf, size_t size)
{
    const char *own = getenv("BERTH_KEY"), *config = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    int n;
    if (own && *own)
        n = snprintf(buf, size, "%s", own);
    else if (config && *config)
        n = snprintf(buf, size, "%s/berth/key", config);
    else if (home && *home)
        n = snprintf(buf, size, "%s/.config/berth/key", home);
    else
        return -ENOENT;
    return (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int key_place(const char *beside, char *buf, size_t size)
{
    int r = key_file(buf, size);
    if (r < 0 || !beside)
        return r;
    char *slash = strrchr(buf, '/');
    size_t at = slash ? (size_t)(slash + 1 - buf) : 0;
    return (size_t)snprintf(buf + at, size - at, "%s", beside) < size - at ? 0 : -ENAMETOOLONG;
}
