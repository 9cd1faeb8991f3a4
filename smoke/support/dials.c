// What a machine's clock and disk do to one program: loaded in front of libc by LD_PRELOAD.
// Owns two dials in a mapped file: milliseconds that the wall clock is off, and milliseconds that
// each sync takes longer. Never touches the monotonic clock, nor any other process.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *dials;
static int (*real_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void open_dials(void) {
    const char *path = getenv("MILL_TEST_DIALS");
    real_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, 16, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) dials = mapped;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *at) {
    int done = real_clock ? real_clock(id, at) : (int)syscall(SYS_clock_gettime, id, at);
    if (!done && dials && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        at->tv_sec += dials[0] / 1000;
    return done;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

static void drag(void) {
    if (dials && dials[1] > 0) usleep((useconds_t)(dials[1] * 1000));
}

int fsync(int file) {
    drag();
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    drag();
    return (int)syscall(SYS_fdatasync, file);
}
