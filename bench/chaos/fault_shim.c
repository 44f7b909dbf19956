/* A disk that fails, and one that loses power, for a process started with this library in LD_PRELOAD.

   CUFF_FAULT_FOLDER   only files under this folder count
   CUFF_FAULT_CONTROL  a file of 64 bytes, mapped by the harness too: struct control below, so that faults are switched
                       on and off while the process runs
   CUFF_FAULT_LOG      every write and every fsync, with the bytes: the harness rebuilds from it what a disk would hold
                       after a power cut, namely what was written before an fsync that succeeded

   A failing write has written half of its bytes. After a failing fsync what was written since the last one is lost for
   good, as on Linux, where the next fsync may succeed all the same. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct control {
    volatile int64_t mode;    /* 0: no faults, 1: the nth operation alone, 2: every nth */
    volatile int64_t nth;
    volatile int64_t kinds;   /* 1: writes, 2: fsyncs, 3: both */
    volatile int64_t error;   /* errno of a failing write; a failing fsync is EIO */
    volatile int64_t counted; /* operations of those kinds since it was switched on */
    volatile int64_t failed;
};

struct record { /* in the log, followed by the path and the bytes */
    int64_t kind; /* 1: write, 2: truncate, 3: fsync that succeeded, 4: fsync that failed, 5: removed */
    int64_t offset, size, path_size;
};

static struct control *control;
static char folder[PATH_MAX];
static size_t folder_size;
static int log_file = -1;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("CUFF_FAULT_FOLDER"), *controlled = getenv("CUFF_FAULT_CONTROL"), *log = getenv("CUFF_FAULT_LOG");
    if (!where || !controlled || !log) return;
    folder_size = (size_t)snprintf(folder, sizeof folder, "%s/", where);
    int file = (int)syscall(SYS_openat, AT_FDCWD, controlled, O_RDWR);
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (mapped == MAP_FAILED) return;
    log_file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    control = mapped;
}

static int watched(int file, char *path) {
    char link[64];
    if (!control) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return strncmp(path, folder, folder_size) == 0;
}

static int fails(int kind) {
    if (!control->mode || !(control->kinds & kind)) return 0;
    int64_t now = ++control->counted;
    int failing = control->mode == 1 ? now == control->nth : now % control->nth == 0;
    control->failed += failing;
    return failing;
}

static void note(int64_t kind, const char *path, int64_t offset, const void *bytes, int64_t size) {
    struct record record = {kind, offset, size, (int64_t)strlen(path)};
    struct iovec parts[] = {{&record, sizeof record}, {(void *)path, (size_t)record.path_size}, {(void *)bytes, bytes ? (size_t)size : 0}};
    syscall(SYS_writev, log_file, parts, 3);
}

static ssize_t write_at(int file, const void *bytes, size_t size, off_t offset, int here) {
    char path[PATH_MAX];
    if (!watched(file, path))
        return here ? syscall(SYS_write, file, bytes, size) : syscall(SYS_pwrite64, file, bytes, size, offset);
    pthread_mutex_lock(&one_at_a_time);
    int failing = fails(1), error = (int)control->error;
    off_t at = here ? lseek(file, 0, SEEK_CUR) : offset;
    size_t asked = failing ? size / 2 : size;
    ssize_t done = here ? syscall(SYS_write, file, bytes, asked) : syscall(SYS_pwrite64, file, bytes, asked, offset);
    int why = failing ? error : errno;
    if (done > 0) note(1, path, at, bytes, done);
    pthread_mutex_unlock(&one_at_a_time);
    errno = why;
    return failing ? -1 : done;
}

ssize_t write(int file, const void *bytes, size_t size) { return write_at(file, bytes, size, 0, 1); }
ssize_t pwrite(int file, const void *bytes, size_t size, off_t offset) { return write_at(file, bytes, size, offset, 0); }
ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t offset) { return write_at(file, bytes, size, offset, 0); }

static int sync_file(int file, long call) {
    char path[PATH_MAX];
    if (!watched(file, path)) return (int)syscall(call, file);
    pthread_mutex_lock(&one_at_a_time);
    int failing = fails(2);
    note(failing ? 4 : 3, path, 0, NULL, 0); /* the page cache keeps it for this run; the power cut is played by the harness */
    pthread_mutex_unlock(&one_at_a_time);
    if (failing) errno = EIO;
    return failing ? -1 : 0;
}

int fsync(int file) { return sync_file(file, SYS_fsync); }
int fdatasync(int file) { return sync_file(file, SYS_fdatasync); }

static int cut(int file, off_t size) {
    char path[PATH_MAX];
    int seen = watched(file, path);
    if (seen) pthread_mutex_lock(&one_at_a_time);
    int done = (int)syscall(SYS_ftruncate, file, size);
    int why = errno;
    if (seen) {
        if (done == 0) note(2, path, size, NULL, 0);
        pthread_mutex_unlock(&one_at_a_time);
    }
    errno = why;
    return done;
}

int ftruncate(int file, off_t size) { return cut(file, size); }
int ftruncate64(int file, off64_t size) { return cut(file, size); }

int unlink(const char *path) {
    char whole[PATH_MAX];
    int seen = control && realpath(path, whole) && strncmp(whole, folder, folder_size) == 0;
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (seen && done == 0) note(5, whole, 0, NULL, 0); /* taken as safe at once: SQLite syncs the folder */
    return done;
}
