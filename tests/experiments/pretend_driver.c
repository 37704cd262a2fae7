/* A stand-in for libcuda.so.1, for tests on machines without a GPU. "Device memory" is a memfd, mapped; so a handle
 * can be exported as a descriptor, sent to another process and mapped there, as with the real one. In a forked child
 * of a process that has called cuInit every call answers 3. That is this file's choice, and says nothing of CUDA. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef unsigned long long u64;
typedef struct { int type, id; } Location;
typedef struct {
    int type, handle_types;
    Location location;
    void *windows;
    struct { unsigned char a, b; unsigned short c; unsigned char d[4]; } flags;
} Properties;
typedef struct { Location location; int flags; } Access;

static pid_t initialised_in;
static void *current;

static int state(void) { return initialised_in == 0 || initialised_in != getpid() ? 3 : 0; }

int cuInit(unsigned flags) {
    if (flags) return 1;
    if (initialised_in && initialised_in != getpid()) return 3;
    initialised_in = getpid();
    return 0;
}
int cuGetErrorName(int code, const char **name) {
    *name = code == 0 ? "CUDA_SUCCESS" : code == 1 ? "CUDA_ERROR_INVALID_VALUE"
          : code == 3 ? "CUDA_ERROR_NOT_INITIALIZED" : code == 201 ? "CUDA_ERROR_INVALID_CONTEXT" : NULL;
    return *name ? 0 : 1;
}
int cuDriverGetVersion(int *version) { *version = 1; return 0; }
int cuDeviceGetCount(int *count) { if (state()) return state(); *count = 1; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    if (state()) return state();
    *value = device == 0 && (which == 102 || which == 103);
    return 0;
}
int cuCtxCreate_v2(void **context, unsigned flags, int device) {
    if (state()) return state();
    if (flags || device) return 1;
    *context = current = &current;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { return cuCtxCreate_v2(context, 0, device); }
int cuCtxSetCurrent(void *context) { if (state()) return state(); current = context; return 0; }
int cuCtxGetCurrent(void **context) { if (state()) return state(); *context = current; return 0; }
int cuCtxSynchronize(void) { return state() ? state() : current ? 0 : 201; }
int cuMemAlloc_v2(u64 *address, size_t size) {
    if (cuCtxSynchronize()) return cuCtxSynchronize();
    *address = (u64)(size_t)malloc(size);
    return 0;
}
int cuMemcpyHtoD_v2(u64 to, const void *from, size_t size) { memcpy((void *)(size_t)to, from, size); return state(); }
int cuMemcpyDtoH_v2(void *to, u64 from, size_t size) { memcpy(to, (void *)(size_t)from, size); return state(); }

static int good(const Properties *p) {
    static const char zeros[8];
    return p->type == 1 && p->handle_types == 1 && p->location.type == 1 && p->location.id == 0 && !p->windows
        && !memcmp(&p->flags, zeros, 8);
}
int cuMemGetAllocationGranularity(size_t *size, const Properties *p, int kind) {
    if (state() || !good(p) || kind) return state() ? state() : 1;
    *size = 2 << 20;
    return 0;
}
int cuMemCreate(u64 *handle, size_t size, const Properties *p, u64 flags) {
    if (state() || !good(p) || flags || size % (2 << 20)) return state() ? state() : 1;
    int fd = memfd_create("pretended device memory", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, size)) return 1;
    *handle = 0x700000000ULL + fd;
    return 0;
}
static int fd_of(u64 handle) { return (int)(handle - 0x700000000ULL); }
int cuMemExportToShareableHandle(int *fd, u64 handle, int kind, u64 flags) {
    if (kind != 1 || flags) return 1;
    *fd = dup(fd_of(handle));
    return *fd < 0;
}
int cuMemImportFromShareableHandle(u64 *handle, void *fd, int kind) {
    int copy = dup((int)(size_t)fd);
    if (kind != 1 || copy < 0) return 1;
    *handle = 0x700000000ULL + copy;
    return 0;
}
int cuMemAddressReserve(u64 *address, size_t size, size_t alignment, u64 wish, u64 flags) {
    void *found = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED || alignment || wish || flags) return 1;
    *address = (u64)(size_t)found;
    return 0;
}
int cuMemMap(u64 address, size_t size, size_t offset, u64 handle, u64 flags) {
    if (offset || flags) return 1;
    return mmap((void *)(size_t)address, size, PROT_NONE, MAP_SHARED | MAP_FIXED, fd_of(handle), 0) == MAP_FAILED;
}
int cuMemSetAccess(u64 address, size_t size, const Access *access, size_t count) {
    if (count != 1 || access->location.type != 1 || access->location.id || access->flags != 3) return 1;
    return mprotect((void *)(size_t)address, size, PROT_READ | PROT_WRITE) != 0;
}
int cuMemUnmap(u64 address, size_t size) { return munmap((void *)(size_t)address, size) != 0; }
int cuMemRelease(u64 handle) { return close(fd_of(handle)) != 0; }
