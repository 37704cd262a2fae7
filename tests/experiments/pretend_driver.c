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
#ifdef WITH_CUDA_H /* only to have the compiler compare what follows with NVIDIA's own declarations */
#include <cuda.h>
#else
typedef int CUresult, CUdevice, CUdevice_attribute, CUmemAllocationHandleType, CUmemAllocationGranularity_flags;
typedef void *CUcontext;
typedef u64 CUdeviceptr, CUmemGenericAllocationHandle;
typedef struct { int type, id; } CUmemLocation;
typedef struct {
    int type, requestedHandleTypes;
    CUmemLocation location;
    void *win32HandleMetaData;
    struct { unsigned char a, b; unsigned short c; unsigned char d[4]; } allocFlags;
} CUmemAllocationProp;
typedef struct { CUmemLocation location; int flags; } CUmemAccessDesc;
#endif

static pid_t initialised_in;
static void *current;

static int state(void) { return initialised_in == 0 || initialised_in != getpid() ? 3 : 0; }

CUresult cuInit(unsigned flags) {
    if (flags) return 1;
    if (initialised_in && initialised_in != getpid()) return 3;
    initialised_in = getpid();
    return 0;
}
CUresult cuGetErrorName(CUresult code, const char **name) {
    *name = code == 0 ? "CUDA_SUCCESS" : code == 1 ? "CUDA_ERROR_INVALID_VALUE"
          : code == 3 ? "CUDA_ERROR_NOT_INITIALIZED" : code == 201 ? "CUDA_ERROR_INVALID_CONTEXT" : NULL;
    return *name ? 0 : 1;
}
CUresult cuDriverGetVersion(int *version) { *version = 1; return 0; }
CUresult cuDeviceGetCount(int *count) { if (state()) return state(); *count = 1; return 0; }
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
    if (state()) return state();
    *value = device == 0 && (which == 102 || which == 103);
    return 0;
}
CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device) {
    if (state()) return state();
    if (flags || device) return 1;
    *context = current = &current;
    return 0;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) { return cuCtxCreate_v2(context, 0, device); }
CUresult cuCtxSetCurrent(CUcontext context) { if (state()) return state(); current = context; return 0; }
CUresult cuCtxGetCurrent(CUcontext *context) { if (state()) return state(); *context = current; return 0; }
CUresult cuCtxSynchronize(void) { return state() ? state() : current ? 0 : 201; }
CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
    if (cuCtxSynchronize()) return cuCtxSynchronize();
    *address = (u64)(size_t)malloc(size);
    return 0;
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size) {
    memcpy((void *)(size_t)to, from, size);
    return state();
}
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size) {
    memcpy(to, (void *)(size_t)from, size);
    return state();
}

static int good(const CUmemAllocationProp *p) {
    static const char zeros[8];
    return p->type == 1 && p->requestedHandleTypes == 1 && p->location.type == 1 && p->location.id == 0
        && !p->win32HandleMetaData && !memcmp(&p->allocFlags, zeros, 8);
}
CUresult cuMemGetAllocationGranularity(size_t *size, const CUmemAllocationProp *p,
                                       CUmemAllocationGranularity_flags kind) {
    if (state() || !good(p) || kind) return state() ? state() : 1;
    *size = 2 << 20;
    return 0;
}
CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *p, u64 flags) {
    if (state() || !good(p) || flags || size % (2 << 20)) return state() ? state() : 1;
    int fd = memfd_create("pretended device memory", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, size)) return 1;
    *handle = 0x700000000ULL + fd;
    return 0;
}
static int fd_of(u64 handle) { return (int)(handle - 0x700000000ULL); }
CUresult cuMemExportToShareableHandle(void *fd, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType kind, u64 flags) {
    if (kind != 1 || flags) return 1;
    *(int *)fd = dup(fd_of(handle));
    return *(int *)fd < 0;
}
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *fd,
                                        CUmemAllocationHandleType kind) {
    int copy = dup((int)(size_t)fd);
    if (kind != 1 || copy < 0) return 1;
    *handle = 0x700000000ULL + copy;
    return 0;
}
CUresult cuMemAddressReserve(CUdeviceptr *address, size_t size, size_t alignment, CUdeviceptr wish, u64 flags) {
    void *found = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED || alignment || wish || flags) return 1;
    *address = (u64)(size_t)found;
    return 0;
}
CUresult cuMemMap(u64 address, size_t size, size_t offset, u64 handle, u64 flags) {
    if (offset || flags) return 1;
    return mmap((void *)(size_t)address, size, PROT_NONE, MAP_SHARED | MAP_FIXED, fd_of(handle), 0) == MAP_FAILED;
}
CUresult cuMemSetAccess(u64 address, size_t size, const CUmemAccessDesc *access, size_t count) {
    if (count != 1 || access->location.type != 1 || access->location.id || access->flags != 3) return 1;
    return mprotect((void *)(size_t)address, size, PROT_READ | PROT_WRITE) != 0;
}
CUresult cuMemUnmap(u64 address, size_t size) { return munmap((void *)(size_t)address, size) != 0; }
CUresult cuMemRelease(u64 handle) { return close(fd_of(handle)) != 0; }
