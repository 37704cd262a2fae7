/* A stand-in for libnvidia-ml.so.1, for tests on machines without a GPU: one device with 80 GB, of which 3 MiB are in
 * use, by this process (1 MiB) and by one whose memory isn't told. It says nothing of NVML. */
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#ifdef WITH_NVML_H /* only to have the compiler compare what follows with NVIDIA's own declarations */
#include <nvml.h>
#else
typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct {
    unsigned pid;
    unsigned long long usedGpuMemory;
    unsigned gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;
#endif

static int initialised;
static nvmlDevice_t device(void) { return (nvmlDevice_t)&initialised; }

nvmlReturn_t nvmlInit_v2(void) { initialised = 1; return 0; }
const char *nvmlErrorString(nvmlReturn_t code) { return code == 2 ? "Invalid Argument" : "Pretended Error"; }
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return initialised ? 0 : 1; }
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *found) {
    *found = device();
    return index ? 2 : 0;
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *found) {
    *found = device();
    return strcmp(uuid, "GPU-0000") ? 2 : 0;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t which, nvmlMemory_t *memory) {
    memory->total = 80000000000ULL;
    memory->used = 3 << 20;
    memory->free = memory->total - memory->used;
    return which == device() ? 0 : 2;
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t which, unsigned *count, nvmlProcessInfo_t *infos) {
    if (which != device() || *count < 2) return 2;
    *count = 2;
    infos[0] = (nvmlProcessInfo_t){(unsigned)getpid(), 1 << 20, ~0u, ~0u};
    infos[1] = (nvmlProcessInfo_t){4000000, ~0ULL, ~0u, ~0u};
    return 0;
}
