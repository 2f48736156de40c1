/* The files that belong together stay together: each finds the others from where it runs. */
#include "base/self.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *self_file(const char *built, const char *installed, char *buf, size_t size)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return NULL;
    self[n] = 0;
    *strrchr(self, '/') = 0;
    const char *tries[] = {built, installed};
    for (size_t i = 0; i < 2; i++) {
        int len = snprintf(buf, size, "%s/%s", self, tries[i]);
        if (len > 0 && (size_t)len < size && access(buf, R_OK) == 0)
            return buf;
    }
    return NULL;
}
