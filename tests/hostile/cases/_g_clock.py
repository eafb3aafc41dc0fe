"""A clock that runs faster inside the server, so that its time-outs of minutes can be waited for.

A small library, made with `cc` and preloaded, stands in front of the two calls that tokio's timers
use. Everything else of the program is as it is.
"""

import hashlib, os, pathlib, subprocess, tempfile

from rig import check

SOURCE = r"""
#define _GNU_SOURCE
#define syscall libc_syscall // its declaration takes any number of arguments
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#undef syscall

static int64_t speed = 1, began[2];

static long raw(long n, long a, long b, long c, long d, long e, long f) {
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

static int64_t now(clockid_t clock) {
    struct timespec t;
    raw(SYS_clock_gettime, clock, (long)&t, 0, 0, 0, 0);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

__attribute__((constructor)) static void begin(void) {
    const char *wanted = getenv("TEST_CLOCK_SPEED");
    if (wanted) speed = atoll(wanted);
    began[0] = now(CLOCK_REALTIME);
    began[1] = now(CLOCK_MONOTONIC);
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return raw(SYS_clock_gettime, clock, (long)t, 0, 0, 0, 0);
    int64_t start = began[clock == CLOCK_MONOTONIC];
    int64_t fast = start + (now(clock) - start) * speed;
    t->tv_sec = fast / 1000000000LL;
    t->tv_nsec = fast % 1000000000LL;
    return 0;
}

// Rust's standard library waits for futexes by an absolute time of the fast clock.
long syscall(long n, long a, long b, long c, long d, long e, long f) {
    struct timespec real, *t = (struct timespec *)d;
    if (n == SYS_futex && (b & 127) == 9 && t) {
        int64_t fast = t->tv_sec * 1000000000LL + t->tv_nsec;
        int64_t slow = began[1] + (fast - began[1]) / speed;
        real.tv_sec = slow / 1000000000LL;
        real.tv_nsec = slow % 1000000000LL;
        d = (long)&real;
    }
    return raw(n, a, b, c, d, e, f);
}

int epoll_wait(int fd, struct epoll_event *events, int count, int timeout) {
    if (timeout > 0) timeout = (timeout + speed - 1) / speed;
    return raw(SYS_epoll_pwait, fd, (long)events, count, timeout, 0, 8);
}
"""


def fast(speed):
    """The environment of a server whose clock runs so many times faster."""
    name = "postbote-test-clock-" + hashlib.sha256(SOURCE.encode()).hexdigest()[:16] + ".so"
    path = pathlib.Path(tempfile.gettempdir()) / name
    if not path.exists():
        own = path.with_suffix(f".{os.getpid()}")
        done = subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(own)], input=SOURCE.encode(), capture_output=True)
        check(done.returncode == 0, f"cc cannot make the clock: {done.stderr.decode()}")
        own.rename(path)
    return {"LD_PRELOAD": str(path), "TEST_CLOCK_SPEED": str(speed)}
