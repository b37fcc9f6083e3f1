/* The guest's side of `make bench --only guest-io`: how fast a disk is, by Linux's asynchronous I/O past the page cache.
 *
 *   guest_io DEVICE MIB SECONDS
 *
 * Fills the first MIB of the device, and then prints a line for each measurement: `guest-io NAME VALUE`. Rates are
 * operations in a second of 4 KiB and MiB in a second of 256 KiB pieces; of fsync it is the median of a write of
 * 4 KiB with its flush, in microseconds. Static, and without a library for what the kernel has calls for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEPTH 32
#define SMALL 4096ul
#define LARGE (256ul << 10)

static int device;
static uint64_t bytes, state = 0x9e3779b97f4a7c15ull;
static double seconds;
static char *buffers[DEPTH];

static void fail(const char *what) {
    printf("guest-io failed: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static uint64_t any(uint64_t below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state % below;
}

static void submit(aio_context_t context, struct iocb *request) {
    if (syscall(SYS_io_submit, context, 1, &request) != 1) fail("io_submit");
}

/* Operations in a second, with `depth` of them under way. */
static double rate(int operation, uint64_t size, int depth, int is_random) {
    aio_context_t context = 0;
    struct iocb requests[DEPTH];
    struct io_event done[DEPTH];
    uint64_t places = bytes / size, next = 0, count = 0;
    double began = now(), ended;
    int waiting = 0;

    if (syscall(SYS_io_setup, DEPTH, &context)) fail("io_setup");
    for (int i = 0; i < depth; i++) {
        memset(&requests[i], 0, sizeof requests[i]);
        requests[i].aio_fildes = device;
        requests[i].aio_lio_opcode = operation;
        requests[i].aio_buf = (uintptr_t)buffers[i];
        requests[i].aio_nbytes = size;
        requests[i].aio_data = i;
        requests[i].aio_offset = (is_random ? any(places) : next++ % places) * size;
        submit(context, &requests[i]);
        waiting++;
    }
    while (waiting) {
        long got = syscall(SYS_io_getevents, context, 1, DEPTH, done, NULL);
        if (got < 1) fail("io_getevents");
        for (long i = 0; i < got; i++) {
            struct iocb *request = &requests[done[i].data];
            if ((uint64_t)done[i].res != size) errno = -done[i].res, fail("a request");
            count++;
            if (now() - began >= seconds) {
                waiting--;
                continue;
            }
            request->aio_offset = (is_random ? any(places) : next++ % places) * size;
            submit(context, request);
        }
    }
    ended = now();
    syscall(SYS_io_destroy, context);
    return count / (ended - began);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of a write with its flush, in microseconds. */
static double flush(void) {
    static double taken[1 << 16];
    size_t count = 0;
    double began = now(), at;
    while ((at = now()) - began < seconds && count < 1 << 16) {
        if (pwrite(device, buffers[0], SMALL, any(bytes / SMALL) * SMALL) != SMALL) fail("write");
        if (fsync(device)) fail("fsync");
        taken[count++] = (now() - at) * 1e6;
    }
    qsort(taken, count, sizeof *taken, by_size);
    return taken[count / 2];
}

int main(int count, char **words) {
    if (count != 4) return 2;
    device = open(words[1], O_RDWR | O_DIRECT);
    if (device < 0) fail(words[1]);
    bytes = strtoull(words[2], NULL, 10) << 20;
    seconds = strtod(words[3], NULL);
    for (int i = 0; i < DEPTH; i++) {
        if (posix_memalign((void **)&buffers[i], SMALL, 1 << 20)) fail("memory");
        for (int j = 0; j < 1 << 20; j += 8) *(uint64_t *)(buffers[i] + j) = any(-1);
    }
    for (uint64_t at = 0; at < bytes; at += 1 << 20)
        if (pwrite(device, buffers[at >> 20 & 7], 1 << 20, at) != 1 << 20) fail("fill");
    if (fsync(device)) fail("fsync");
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("guest-io random-read %.1f\n", rate(IOCB_CMD_PREAD, SMALL, 16, 1));
    printf("guest-io random-write %.1f\n", rate(IOCB_CMD_PWRITE, SMALL, 16, 1));
    printf("guest-io sequential-read %.1f\n", rate(IOCB_CMD_PREAD, LARGE, 4, 0) * LARGE / (1 << 20));
    printf("guest-io sequential-write %.1f\n", rate(IOCB_CMD_PWRITE, LARGE, 4, 0) * LARGE / (1 << 20));
    printf("guest-io fsync %.1f\n", flush());
    printf("guest-io done\n");
    return 0;
}
