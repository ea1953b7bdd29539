// Vectors and sums between blocks, through device memory: data that are their own flags.
#pragma once
#include "memory.h"

__device__ __forceinline__ uint4 peek(const unsigned* at) {
    uint4 v;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at) : "memory");
    return v;
}
__device__ __forceinline__ void put(unsigned* at, unsigned word) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(at), "r"(word) : "memory");
}
__device__ __forceinline__ unsigned marked(float value, unsigned parity) { return (__float_as_uint(value) & ~1u) | parity; }

// Send `value` of the block's row `tid` (if `own`) and, from each warp that holds rows, the sum of `square`.
template <class V>
__device__ __forceinline__ void send(unsigned* exchange, int tid, bool own, float value, float square, unsigned parity) {
    if (tid < V::ROWS) put(exchange + V::DATA + blockIdx.x * V::ROWS + tid, marked(own ? value : 0.0f, parity));
    square = own ? square : 0.0f;
#pragma unroll
    for (int mask = power_of_2(V::ROWS < 32 ? V::ROWS : 32) / 2; mask; mask /= 2) square += __shfl_xor_sync(~0u, square, mask);
    if (tid % 32 == 0) put(exchange + V::APART + blockIdx.x * V::SENDERS + tid / 32, marked(square, parity));
}

// The last warp: wait for all sums of a vector; the norms multiply it by what follows from them.
template <class V>
__device__ __forceinline__ void read_sums(const unsigned* exchange, unsigned base, unsigned parity, float eps) {
    constexpr int COUNT = BLOCKS * V::SENDERS, EACH = up(COUNT, 32) / 32;
    const int lane = threadIdx.x & 31;
    unsigned v[EACH], pending = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        v[j] = 0;
        pending |= (unsigned)(lane + 32 * j < COUNT) << j;
    }
    for (Patience patience; pending; patience.wait()) {
#pragma unroll
        for (int j = 0; j < EACH; j++)
            if (pending >> j & 1) {
                const int sum = lane + 32 * j;
                asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v[j]) : "l"(exchange + V::APART + sum) : "memory");
            }
#pragma unroll
        for (int j = 0; j < EACH; j++)
            if ((v[j] & 1) == parity) pending &= ~(1u << j);
    }
    __syncwarp();
    float square = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) square += __uint_as_float(v[j]);
#pragma unroll
    for (int mask = 16; mask; mask /= 2) square += __shfl_xor_sync(~0u, square, mask);
    if (lane == 0) store(base + NORM_AT, __float_as_uint(rsqrtf(square * (1.0f / V::LENGTH) + eps)));
}
