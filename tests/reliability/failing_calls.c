/* Preloaded before libc: counts the calls by which a process changes what is stored below one directory, and lets the
   n-th of them fail, or kills the process before, in the middle of, or after it. See failing_calls.py. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum how { PASS, KILL_BEFORE, KILL_HALFWAY, KILL_AFTER, FAIL, POWER_CUT };
enum kind { TAKES_ROOM = 1, SYNCS = 2, OTHER = 4 };

static char root[PATH_MAX];
static size_t root_length;
static atomic_long made;
static long wanted;
static enum how how;
static int error_number;
static int affected; /* after the n-th call: kinds that fail for ever; 0: only the n-th fails */
static int log_fd = -1;

void calls_arm(const char *below, long at, int what, int error, int for_ever, int log)
{
    snprintf(root, sizeof root, "%s", below);
    root_length = strlen(root);
    wanted = at;
    how = what;
    error_number = error;
    affected = for_ever;
    log_fd = log;
    atomic_store(&made, 0);
}

long calls_made(void) { return atomic_load(&made); }

static int below_root(const char *path)
{
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

static int of_fd(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return 1;
}

static int of_path(int directory, const char *name, char *path)
{
    char base[PATH_MAX];
    if (name[0] == '/')
        return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
    if (directory == AT_FDCWD ? getcwd(base, sizeof base) == NULL : !of_fd(directory, base))
        return 0;
    return snprintf(path, PATH_MAX, "%.2000s/%.2000s", base, name) < PATH_MAX;
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Shut the file system down without writing anything more, not even its log: what a power cut leaves. */
static void cut_power(void)
{
    unsigned int without_flush = 2;
    int fd = syscall(SYS_openat, AT_FDCWD, root, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 || ioctl(fd, _IOR('X', 125, unsigned int), &without_flush) < 0)
        _exit(99);
}

/* What becomes of this call. */
static enum how met(const char *name, enum kind kind, const char *path)
{
    if (root_length == 0 || !below_root(path))
        return PASS;
    long number = atomic_fetch_add(&made, 1) + 1;
    if (log_fd >= 0) {
        char line[PATH_MAX + 64];
        int size = snprintf(line, sizeof line, "%s %s\n", name, path + root_length);
        syscall(SYS_write, log_fd, line, size);
    }
    if (wanted == 0 || number < wanted || (number > wanted && !(affected & kind)))
        return PASS;
    if (how == POWER_CUT)
        cut_power();
    if (how == POWER_CUT || how == KILL_BEFORE)
        die();
    if (how == FAIL)
        errno = error_number;
    return how;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define ACT(meeting, call) \
    enum how now = meeting; \
    if (now == FAIL) \
        return -1; \
    __typeof__(call) result = call; \
    if (now == KILL_HALFWAY || now == KILL_AFTER) \
        die(); \
    return result

#define ON_FD(name, kind, fd) (of_fd(fd, path) ? met(name, kind, path) : PASS)
#define ON_PATH(name, kind, directory, file) (of_path(directory, file, path) ? met(name, kind, path) : PASS)

static ssize_t written(enum how now, ssize_t (*call)(int, const void *, size_t, off_t), int fd, const void *data, size_t size,
                       off_t at)
{
    if (now == FAIL)
        return -1;
    ssize_t result = call(fd, data, now == KILL_HALFWAY ? size / 2 : size, at);
    if (now != PASS)
        die();
    return result;
}

static ssize_t call_write(int fd, const void *data, size_t size, off_t at)
{
    (void)at;
    return syscall(SYS_write, fd, data, size);
}

static ssize_t call_pwrite(int fd, const void *data, size_t size, off_t at) { return syscall(SYS_pwrite64, fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size)
{
    char path[PATH_MAX];
    return written(ON_FD("write", TAKES_ROOM, fd), call_write, fd, data, size, 0);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    char path[PATH_MAX];
    return written(ON_FD("pwrite", TAKES_ROOM, fd), call_pwrite, fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) { return pwrite(fd, data, size, at); }

int fsync(int fd)
{
    char path[PATH_MAX];
    REAL(fsync);
    ACT(ON_FD("fsync", SYNCS, fd), real(fd));
}

int fdatasync(int fd)
{
    char path[PATH_MAX];
    REAL(fdatasync);
    ACT(ON_FD("fdatasync", SYNCS, fd), real(fd));
}

int ftruncate(int fd, off_t size)
{
    char path[PATH_MAX];
    REAL(ftruncate);
    ACT(ON_FD("ftruncate", OTHER, fd), real(fd, size));
}

int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

int futimens(int fd, const struct timespec times[2])
{
    char path[PATH_MAX];
    REAL(futimens);
    ACT(ON_FD("futimens", OTHER, fd), real(fd, times));
}

int mkdirat(int directory, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    REAL(mkdirat);
    ACT(ON_PATH("mkdir", TAKES_ROOM, directory, name), real(directory, name, mode));
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int directory, const char *name, int flags)
{
    char path[PATH_MAX];
    REAL(unlinkat);
    ACT(ON_PATH(flags & AT_REMOVEDIR ? "rmdir" : "unlink", OTHER, directory, name), real(directory, name, flags));
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    char path[PATH_MAX];
    REAL(renameat);
    ACT(ON_PATH("rename", OTHER, to_directory, to), real(from_directory, from, to_directory, to));
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

static int opened(int directory, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)))
        return syscall(SYS_openat, directory, name, flags, mode);
    ACT(ON_PATH("create", TAKES_ROOM, directory, name), (int)syscall(SYS_openat, directory, name, flags, mode));
}

static mode_t mode_in(int flags, va_list arguments) { return flags & O_CREAT ? va_arg(arguments, mode_t) : 0; }

#define OPEN(name, ...) \
    int name(__VA_ARGS__, int flags, ...) \
    { \
        va_list arguments; \
        va_start(arguments, flags); \
        mode_t mode = mode_in(flags, arguments); \
        va_end(arguments); \
        return opened(DIRECTORY, file, flags, mode); \
    }

#define DIRECTORY AT_FDCWD
OPEN(open, const char *file)
OPEN(open64, const char *file)
#undef DIRECTORY
#define DIRECTORY directory
OPEN(openat, int directory, const char *file)
OPEN(openat64, int directory, const char *file)
