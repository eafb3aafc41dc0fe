// A disk that errs as the case says, and whose power can be cut.
//
// POSTBOTE_DISK_UNDER: only files below it are concerned. POSTBOTE_DISK: a file with four entries
// {errno, how many calls to let pass, how many to fail (-1: all), calls seen}, for writes, syncs,
// opens for writing, changes of names and sizes; the case changes it while the program runs.
// POSTBOTE_SHADOW: a directory that holds what a power cut would leave: a file's content as of its
// last sync (by inode), a directory's names as of its last sync (d + inode).
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct fault { int32_t code, skip, count, seen; };
enum { WRITE, SYNC, OPEN, NAME };
static struct fault none[4];
static struct fault *faults = none;
static const char *under, *shadow;

__attribute__((constructor)) static void begin(void) {
    under = getenv("POSTBOTE_DISK_UNDER");
    shadow = getenv("POSTBOTE_SHADOW");
    const char *name = getenv("POSTBOTE_DISK");
    int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *map = mmap(0, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) faults = map;
    close(fd);
}

static int concerns(const char *path) { return under && strncmp(path, under, strlen(under)) == 0; }

static int concerns_fd(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return concerns(path);
}

// The error for this call, or 0.
static int fails(int kind) {
    struct fault *fault = &faults[kind];
    if (!fault->code) return 0;
    int number = __atomic_add_fetch(&fault->seen, 1, __ATOMIC_SEQ_CST);
    if (number <= fault->skip) return 0;
    if (fault->count >= 0 && number > fault->skip + fault->count) return 0;
    return fault->code;
}
#define FAIL(kind, of) do { if (faults[kind].code && (of)) { int code = fails(kind); if (code) { errno = code; return -1; } } } while (0)
#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

static void keep_file(int fd, ino_t inode) {
    static _Thread_local char piece[1 << 16];
    char name[4200], temporary[4300], self[64];
    snprintf(name, sizeof name, "%s/%lu", shadow, (unsigned long)inode);
    snprintf(temporary, sizeof temporary, "%s.%d", name, gettid());
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int from = open(self, O_RDONLY | O_CLOEXEC), to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct stat about;
    if (from >= 0 && to >= 0 && fstat(from, &about) == 0) {
        off_t at = 0;
        // Holes and preallocated room need no copying.
        while ((at = lseek(from, at, SEEK_DATA)) >= 0 && at < about.st_size) {
            off_t end = lseek(from, at, SEEK_HOLE);
            while (at < end) {
                ssize_t got = pread(from, piece, end - at < (off_t)sizeof piece ? end - at : (off_t)sizeof piece, at);
                if (got <= 0 || pwrite(to, piece, got, at) != got) break;
                at += got;
            }
        }
        if (ftruncate(to, about.st_size) == 0) rename(temporary, name);
    }
    if (from >= 0) close(from);
    if (to >= 0) close(to);
}

static void keep_names(int fd, ino_t inode) {
    char name[4200], temporary[4300], self[64];
    snprintf(name, sizeof name, "%s/d%lu", shadow, (unsigned long)inode);
    snprintf(temporary, sizeof temporary, "%s.%d", name, gettid());
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    DIR *directory = opendir(self);
    FILE *to = fopen(temporary, "we");
    struct dirent *entry;
    while (directory && to && (entry = readdir(directory)))
        if (entry->d_name[0] != '.') fprintf(to, "%c %lu %s\n", entry->d_type == DT_DIR ? 'd' : 'f', (unsigned long)entry->d_ino, entry->d_name);
    if (directory) closedir(directory);
    if (to && fclose(to) == 0) rename(temporary, name);
}

static void keep(int fd) {
    struct stat about;
    int saved = errno;
    if (shadow && concerns_fd(fd) && fstat(fd, &about) == 0) {
        if (S_ISDIR(about.st_mode)) keep_names(fd, about.st_ino);
        else if (S_ISREG(about.st_mode)) keep_file(fd, about.st_ino);
    }
    errno = saved;
}

static void keep_written(int fd) {
    if (shadow && fcntl(fd, F_GETFL) & O_DSYNC && concerns_fd(fd)) keep(fd);
}

ssize_t write(int fd, const void *data, size_t size) {
    FAIL(WRITE, concerns_fd(fd)); REAL(write);
    ssize_t done = real(fd, data, size); if (done > 0) keep_written(fd); return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    FAIL(WRITE, concerns_fd(fd)); REAL(pwrite);
    ssize_t done = real(fd, data, size, at); if (done > 0) keep_written(fd); return done;
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    FAIL(WRITE, concerns_fd(fd)); REAL(pwrite64);
    ssize_t done = real(fd, data, size, at); if (done > 0) keep_written(fd); return done;
}
ssize_t writev(int fd, const struct iovec *pieces, int count) {
    FAIL(WRITE, concerns_fd(fd)); REAL(writev);
    ssize_t done = real(fd, pieces, count); if (done > 0) keep_written(fd); return done;
}
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
    FAIL(WRITE, concerns_fd(fd)); REAL(pwritev);
    ssize_t done = real(fd, pieces, count, at); if (done > 0) keep_written(fd); return done;
}
ssize_t pwritev2(int fd, const struct iovec *pieces, int count, off_t at, int flags) {
    FAIL(WRITE, concerns_fd(fd)); REAL(pwritev2);
    ssize_t done = real(fd, pieces, count, at, flags);
    if (done > 0 && flags & (RWF_DSYNC | RWF_SYNC)) keep(fd); else if (done > 0) keep_written(fd);
    return done;
}
int fsync(int fd) { FAIL(SYNC, concerns_fd(fd)); REAL(fsync); int done = real(fd); if (done == 0) keep(fd); return done; }
int fdatasync(int fd) { FAIL(SYNC, concerns_fd(fd)); REAL(fdatasync); int done = real(fd); if (done == 0) keep(fd); return done; }
int ftruncate(int fd, off_t size) { FAIL(NAME, concerns_fd(fd)); REAL(ftruncate); return real(fd, size); }
int ftruncate64(int fd, off64_t size) { FAIL(NAME, concerns_fd(fd)); REAL(ftruncate64); return real(fd, size); }
int fallocate(int fd, int mode, off_t at, off_t size) { FAIL(NAME, concerns_fd(fd)); REAL(fallocate); return real(fd, mode, at, size); }
int fallocate64(int fd, int mode, off64_t at, off64_t size) { FAIL(NAME, concerns_fd(fd)); REAL(fallocate64); return real(fd, mode, at, size); }
int unlink(const char *path) { FAIL(NAME, concerns(path)); REAL(unlink); return real(path); }
int rename(const char *from, const char *to) { FAIL(NAME, concerns(to)); REAL(rename); return real(from, to); }

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT; }
#define OPENING(name) \
int name(const char *path, int flags, ...) { \
    mode_t mode = 0; va_list rest; va_start(rest, flags); \
    if (flags & (O_CREAT | __O_TMPFILE)) mode = va_arg(rest, mode_t); \
    va_end(rest); \
    if (writes(flags)) FAIL(OPEN, concerns(path)); \
    REAL(name); return real(path, flags, mode); }
OPENING(open)
OPENING(open64)
