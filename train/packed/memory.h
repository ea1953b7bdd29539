// Shared memory by its address, barriers among a block's threads, and waiting with an end.
#pragma once
#include "shape.h"

extern __shared__ __align__(128) byte shared[];

// Shared memory by its 32-bit address: volatile accesses keep their order among themselves and around barriers.
__device__ __forceinline__ unsigned load(unsigned at) {
    unsigned v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(at));
    return v;
}
__device__ __forceinline__ float load_float(unsigned at) { return __uint_as_float(load(at)); }
__device__ __forceinline__ uint2 load_two(unsigned at) {
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(at));
    return v;
}
__device__ __forceinline__ void store(unsigned at, unsigned v) { asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(v)); }
__device__ __forceinline__ void add(unsigned at, int v) { asm volatile("red.shared.add.s32 [%0], %1;" ::"r"(at), "r"(v)); }
__device__ __forceinline__ void raise(unsigned at, unsigned v) { asm volatile("red.shared.max.u32 [%0], %1;" ::"r"(at), "r"(v)); }
__device__ __forceinline__ void together() { asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory"); }
__device__ __forceinline__ void readers() { asm volatile("bar.sync 2, %0;" ::"n"(READERS) : "memory"); }
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }
__device__ __forceinline__ int opaque(int v) {  // so that addresses are not kept from layer to layer
    asm volatile("" : "+r"(v));
    return v;
}
__device__ __forceinline__ unsigned cycle() {
    unsigned now;
    asm volatile("mov.u32 %0, %%clock;" : "=r"(now));
    return now;
}

struct Patience {  // a fault in the protocol ends in an error, not in a GPU that hangs
    int left = 1 << 24;
    __device__ __forceinline__ void wait() { if (--left == 0) __trap(); }
};

__device__ __forceinline__ void await(unsigned barrier, unsigned parity) {
    for (Patience patience;; patience.wait()) {
        unsigned done;
#if __CUDA_ARCH__ >= 900  // may sleep: a warp that fetches takes no turns from those that compute
        asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                     : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
#else
        asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                     : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
#endif
        if (done) return;
    }
}
