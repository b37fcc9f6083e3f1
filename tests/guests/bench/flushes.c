/* The guest's side of `make bench --only volumes`: what is in a disk, and how long a flush takes while something else
 * is done with it.
 *
 *   flushes DEVICE fill FIRST MIB    writes so many MiB of noise from there on
 *   flushes DEVICE until FILE        writes 4 KiB and flushes, again and again until there is the file, and prints
 *                                    how often, the median and the longest in milliseconds
 *   flushes DEVICE seen TEXT         prints TEXT on the console once there is the device
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SMALL 4096ul
#define LARGE (1ul << 20)
/* Flushes go to places of their own: the first so many. */
#define PLACES 1024
#define MOST (1 << 18)

static uint64_t state;
static char *buffer;

static void fail(const char *what) {
    fprintf(stderr, "flushes: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static uint64_t any(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static void fill(int device, uint64_t first, uint64_t mib) {
    for (uint64_t at = first; at < first + mib; at++) {
        for (uint64_t i = 0; i < LARGE; i += 8) *(uint64_t *)(buffer + i) = any();
        if (pwrite(device, buffer, LARGE, at << 20) != (ssize_t)LARGE) fail("write");
    }
    if (fsync(device)) fail("fsync");
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void flush_until(int device, const char *file) {
    static double taken[MOST];
    size_t count = 0;
    while (access(file, F_OK)) {
        double at = now();
        if (pwrite(device, buffer, SMALL, any() % PLACES * SMALL) != (ssize_t)SMALL) fail("write");
        if (fsync(device)) fail("fsync");
        if (count < MOST) taken[count++] = (now() - at) * 1e3;
        usleep(2000);
    }
    if (!count) return;
    qsort(taken, count, sizeof *taken, by_size);
    printf("%zu %.2f %.2f\n", count, taken[count / 2], taken[count - 1]);
}

static void seen(const char *device, const char *text) {
    while (access(device, F_OK)) usleep(2000);
    FILE *console = fopen("/dev/console", "w");
    if (!console) fail("console");
    fprintf(console, "%s\n", text);
    fclose(console);
}

int main(int count, char **words) {
    if (count == 4 && !strcmp(words[2], "seen")) return seen(words[1], words[3]), 0;
    if (count < 4) return 2;
    int device = open(words[1], O_RDWR | O_DIRECT);
    if (device < 0) fail(words[1]);
    if (posix_memalign((void **)&buffer, SMALL, LARGE)) fail("memory");
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    state = (at.tv_sec * 1000000000ull + at.tv_nsec) | 1;
    if (count == 5 && !strcmp(words[2], "fill")) return fill(device, strtoull(words[3], 0, 10), strtoull(words[4], 0, 10)), 0;
    if (count == 4 && !strcmp(words[2], "until")) return flush_until(device, words[3]), 0;
    return 2;
}
