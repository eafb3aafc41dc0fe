// A clock that the case moves: offsets in nanoseconds (wall, then monotonic) stand in the file that
// POSTBOTE_CLOCK names and may change while the program runs.
#define _GNU_SOURCE
#define syscall libc_syscall // its declaration takes any number of arguments
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#undef syscall

static volatile int64_t none[2];
static volatile int64_t *offsets = none;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real = dlsym(RTLD_NEXT, "clock_gettime");
    const char *name = getenv("POSTBOTE_CLOCK");
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *map = mmap(0, 16, PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) offsets = map;
    close(fd);
}

static int64_t moved(clockid_t clock) {
    switch (clock) {
    case CLOCK_REALTIME: case CLOCK_REALTIME_COARSE: return offsets[0];
    case CLOCK_MONOTONIC: case CLOCK_MONOTONIC_COARSE: case CLOCK_BOOTTIME: return offsets[1];
    default: return 0;
    }
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, out);
    if (done == 0) {
        int64_t offset = moved(clock), nanoseconds = out->tv_nsec + offset % 1000000000;
        out->tv_sec += offset / 1000000000;
        while (nanoseconds < 0) { nanoseconds += 1000000000; out->tv_sec--; }
        while (nanoseconds >= 1000000000) { nanoseconds -= 1000000000; out->tv_sec++; }
        out->tv_nsec = nanoseconds;
    }
    return done;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

// Rust's standard library waits for futexes until an absolute time of the moved clock.
long syscall(long n, long a, long b, long c, long d, long e, long f) {
    struct timespec until;
    if (n == SYS_futex && (b & 127) == 9 && d) {
        until = *(struct timespec *)d;
        int64_t offset = offsets[b & 256 ? 0 : 1], nanoseconds = until.tv_nsec - offset % 1000000000;
        until.tv_sec -= offset / 1000000000;
        while (nanoseconds < 0) { nanoseconds += 1000000000; until.tv_sec--; }
        while (nanoseconds >= 1000000000) { nanoseconds -= 1000000000; until.tv_sec++; }
        until.tv_nsec = nanoseconds;
        d = (long)&until;
    }
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        errno = -result;
        return -1;
    }
    return result;
}
