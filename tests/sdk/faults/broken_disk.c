/* A disk that fails when told to: preloaded, it makes calls below one folder fail. Whatever library makes the call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE = 2, SYNC = 4, CLOSE = 8, RENAME = 16, MKDIR = 32, GROW = 64 };

static char root[PATH_MAX];
static long left;      /* calls until one fails; 0: none does */
static int number;     /* its errno */
static int lasting;    /* the kinds that go on failing afterwards */
static int kinds;
static long failed;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void disk_arm(const char *folder, long at, int error, int of, int after) {
    pthread_mutex_lock(&mutex);
    snprintf(root, sizeof root, "%s", folder);
    left = at, number = error, kinds = of, lasting = after, failed = 0;
    pthread_mutex_unlock(&mutex);
}

long disk_disarm(void) {
    pthread_mutex_lock(&mutex);
    long fired = failed;
    left = 0, lasting = 0, kinds = 0, root[0] = 0;
    pthread_mutex_unlock(&mutex);
    return fired;
}

static int fails(int kind) {
    int now = 0;
    pthread_mutex_lock(&mutex);
    if (left > 0 && (kinds & kind) && --left == 0) now = 1;
    else if (failed && (lasting & kind)) now = 1;
    failed += now;
    if (now) errno = number;
    pthread_mutex_unlock(&mutex);
    return now;
}

static int inside(const char *path) { return root[0] && path && strncmp(path, root, strlen(root)) == 0; }

static int creates(int flags, const char *path) {
    if (!inside(path)) return 0;
    return (flags & O_TMPFILE) == O_TMPFILE || ((flags & O_CREAT) && access(path, F_OK) != 0);
}

static int held(int fd) {
    char name[64], path[PATH_MAX];
    if (!root[0]) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

static int writable(int fd) { return (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY; }

/* A full disk takes what lies in blocks that a file has already. */
static int refused(int fd, size_t size, off64_t at) {
    struct stat64 status;
    if (!held(fd) || fstat64(fd, &status) != 0) return 0;
    if (at < 0) at = (fcntl(fd, F_GETFL) & O_APPEND) ? status.st_size : lseek64(fd, 0, SEEK_CUR);
    return fails(at + (off64_t)size > status.st_size ? WRITE | GROW : WRITE);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        MODE REAL(int, #name, const char *, int, ...); \
        if (creates(flags, path) && fails(CREATE)) return -1; \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        MODE REAL(int, #name, int, const char *, int, ...); \
        if (creates(flags, path) && fails(CREATE)) return -1; \
        return real(at, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (refused(fd, size, -1)) return -1;
    return real(fd, data, size);
}

#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *data, size_t size, offset_type at) { \
        REAL(ssize_t, #name, int, const void *, size_t, offset_type); \
        if (refused(fd, size, at)) return -1; \
        return real(fd, data, size, at); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    size_t size = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    if (refused(fd, size, -1)) return -1;
    return real(fd, parts, count);
}

#define ON_FD(name, kind) \
    int name(int fd) { \
        REAL(int, #name, int); \
        if (held(fd) && fails(kind)) return -1; \
        return real(fd); \
    }
ON_FD(fsync, SYNC)
ON_FD(fdatasync, SYNC)

int close(int fd) {
    REAL(int, "close", int);
    /* As Linux does: the file is closed, whatever the answer. */
    if (root[0] && held(fd) && writable(fd) && fails(CLOSE)) {
        int error = errno;
        real(fd);
        errno = error;
        return -1;
    }
    return real(fd);
}

int rename(const char *old, const char *new) {
    REAL(int, "rename", const char *, const char *);
    if (inside(new) && fails(RENAME)) return -1;
    return real(old, new);
}

int link(const char *old, const char *new) {
    REAL(int, "link", const char *, const char *);
    if (inside(new) && fails(RENAME)) return -1;
    return real(old, new);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    if (inside(path) && fails(MKDIR)) return -1;
    return real(path, mode);
}
