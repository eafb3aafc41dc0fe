/* A slow disk for one process: preloaded (LD_PRELOAD), it lets every call that makes data durable
 * take 4 ms longer, as a disk without a write cache would. benches/peers compiles and uses it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/types.h>
#include <time.h>

static void pause_4_ms(void) {
    int before = errno;
    struct timespec left = {0, 4000000};
    while (nanosleep(&left, &left) == -1 && errno == EINTR) {
    }
    errno = before;
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    int result = real(file);
    pause_4_ms();
    return result;
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    int result = real(file);
    pause_4_ms();
    return result;
}

int sync_file_range(int file, off64_t offset, off64_t bytes, unsigned int flags) {
    static int (*real)(int, off64_t, off64_t, unsigned int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "sync_file_range");
    int result = real(file, offset, bytes, flags);
    pause_4_ms();
    return result;
}
