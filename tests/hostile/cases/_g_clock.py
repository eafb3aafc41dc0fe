"""A clock that runs faster inside the server, so that its time-outs of minutes can be waited for.

A small library, made with `cc` and preloaded, stands in front of the two calls that tokio's timers
use. Everything else of the program is as it is.
"""

import hashlib, os, pathlib, subprocess, tempfile

from rig import check

SOURCE = r"""
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t speed = 1, began[2];

static int64_t now(clockid_t clock) {
    struct timespec t;
    syscall(SYS_clock_gettime, clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

__attribute__((constructor)) static void begin(void) {
    const char *wanted = getenv("TEST_CLOCK_SPEED");
    if (wanted) speed = atoll(wanted);
    began[0] = now(CLOCK_REALTIME);
    began[1] = now(CLOCK_MONOTONIC);
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return syscall(SYS_clock_gettime, clock, t);
    int64_t start = began[clock == CLOCK_MONOTONIC];
    int64_t fast = start + (now(clock) - start) * speed;
    t->tv_sec = fast / 1000000000LL;
    t->tv_nsec = fast % 1000000000LL;
    return 0;
}

int epoll_wait(int fd, struct epoll_event *events, int count, int timeout) {
    if (timeout > 0) timeout = (timeout + speed - 1) / speed;
    return syscall(SYS_epoll_pwait, fd, events, count, timeout, 0, 8);
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
