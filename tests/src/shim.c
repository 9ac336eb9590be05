/* Preloaded into programs under measurement: a flush takes longer by as much as the control file says, and flushes and
 * allocations are counted there. The file is shared by all programs that have it open, and by whoever measures them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct control {
    _Atomic uint64_t delay_ns; /* written by whoever measures, read at each flush */
    _Atomic uint64_t flushes;
    _Atomic uint64_t allocations;
    _Atomic uint64_t allocated; /* bytes */
};

static struct control nobody;
static struct control *control = &nobody;

__attribute__((constructor)) static void open_control(void) {
    const char *path = getenv("BACKSTOP_SHIM");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *shared = mmap(NULL, sizeof nobody, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED)
        control = shared;
}

static int flushed(int result) {
    uint64_t delay = atomic_load_explicit(&control->delay_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&control->flushes, 1, memory_order_relaxed);
    if (delay > 0) {
        struct timespec left = {.tv_sec = delay / 1000000000, .tv_nsec = delay % 1000000000};
        while (nanosleep(&left, &left) != 0)
            ;
    }
    return result;
}

int fsync(int file) { return flushed(syscall(SYS_fsync, file)); }

int fdatasync(int file) { return flushed(syscall(SYS_fdatasync, file)); }

#ifdef COUNT_ALLOCATIONS
/* glibc's own, by the names that it exports for this. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static void counted(size_t bytes) {
    atomic_fetch_add_explicit(&control->allocations, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&control->allocated, bytes, memory_order_relaxed);
}

void *malloc(size_t bytes) {
    counted(bytes);
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
    counted(count * bytes);
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes) {
    counted(bytes);
    return __libc_realloc(old, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
    counted(bytes);
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void **out, size_t alignment, size_t bytes) {
    void *memory = memalign(alignment, bytes);
    if (!memory)
        return 12; /* ENOMEM */
    *out = memory;
    return 0;
}
#endif
