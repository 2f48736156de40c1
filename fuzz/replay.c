/* Stands in for libFuzzer's main: gives each file named on the command line, or each file in a
 * folder named there, to LLVMFuzzerTestOneInput(), so that every build replays the corpora. */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    size_t size = 0, room = 1 << 20;
    uint8_t *data = malloc(room);
    if (data)
        size = fread(data, 1, room, f);
    (void)fclose(f);
    /* An allocation of the exact size lets a sanitizer see one byte too many. */
    uint8_t *exact = malloc(size ? size : 1);
    if (data && exact) {
        memcpy(exact, data, size);
        (void)LLVMFuzzerTestOneInput(exact, size);
    }
    free(exact);
    free(data);
    return 0;
}

static int replay(const char *path)
{
    DIR *d = opendir(path);
    if (!d)
        return replay_file(path);
    int count = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char file[4096];
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        if (replay_file(file) < 0) {
            (void)closedir(d);
            return -1;
        }
        count++;
    }
    (void)closedir(d);
    return count > 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (replay(argv[i]) < 0)
            return 1;
    return argc > 1 ? 0 : 1;
}
