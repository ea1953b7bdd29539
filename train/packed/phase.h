// A phase: wait for a vector, quantise it, multiply it by the block's rows of a matrix.
#pragma once
#include "exchange.h"
#include "product.h"

template <int K>
__device__ __forceinline__ float4 four(const float* from, int at) {
    if (K % 4 == 0) return *(const float4*)(from + at);
    return make_float4(from[at], at + 1 < K ? from[at + 1] : 0, at + 2 < K ? from[at + 2] : 0, at + 3 < K ? from[at + 3] : 0);
}

// Is a vector so small, once normalised, that the least magnitude of 1e-5 counts?
template <int N>
__device__ __forceinline__ bool small(unsigned base, unsigned turn) {
    bool any = false;
#pragma unroll
    for (int n = 0; n < N; n++) any |= load_float(base + TOP_AT + 16 * turn + 4 * n) * load_float(base + NORM_AT) < 1e-5f;
    return any;
}

// WAITS: such vectors cannot be told by their largest value alone, so that what follows from the sums must be there first.
// Wait for a whole vector, quantise it (the mixer: once for each of three gains) and add the products to the sums.
template <class M, class V, bool WAITS>
__device__ __forceinline__ void phase(const Parameters& p, unsigned start_of_shared, Slot& slot, const float* gains, unsigned q, float eps, float least,
                                      unsigned parity, unsigned turn, unsigned began, unsigned stamp) {
    constexpr int PACKETS = (M::K + 3) / 4, EACH = (PACKETS + READERS - 1) / READERS, N = M::VECTORS;
    const int tid = opaque(threadIdx.x);  // what follows from it is worked out while waiting, not kept from layer to layer
    const unsigned base = opaque(start_of_shared);
    const int reader = READERS - 1 - tid;  // warps that also send read last
    const bool reads = tid < READERS && reader / 32 * 32 < PACKETS;
    float4 v[EACH][N] = {};
    int total[N] = {};
    q += base;
    if (tid >= READERS) {  // the sums come a little later than the data and are needed last
        while (cycle() - began < M::DELAY + SUMS_LATER) {}
        read_sums<V>(p.exchange, base, parity, eps);
        bool waits = WAITS;
        if (!WAITS) {
            unsigned said;
            for (Patience patience; (said = load(base + SAID_AT)) >> 1 != stamp; patience.wait()) {}
            waits = said & 1;
        }
        if (waits) together();
        if (waits && small<N>(base, turn)) together();
        together();
        return;
    }
    Share<M> share;
    share.start(slot, base, 0, tid);
    if (reads) {
        const unsigned flip = parity ? 0 : ~0u;
        const unsigned* source[EACH];
        unsigned pending = 0;
        float4 gain[EACH][N];
        float largest[N] = {};
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const int packet = reader + j * READERS;
            pending |= (unsigned)(packet < PACKETS) << j;
            source[j] = p.exchange + V::DATA + 4 * packet;
            v[j][0] = make_float4(0, 0, 0, 0);
#pragma unroll
            for (int n = 0; n < N; n++) gain[j][n] = N > 1 && packet < PACKETS ? four<M::K>(gains + n * M::K, 4 * packet) : make_float4(1, 1, 1, 1);
        }
        while (cycle() - began < M::DELAY) {}
        for (Patience patience; pending; patience.wait()) {
#pragma unroll
            for (int j = 0; j < EACH; j++)
                if (pending >> j & 1) *(uint4*)&v[j][0] = peek(source[j]);
#pragma unroll
            for (int j = 0; j < EACH; j++)
                if ((__float_as_uint(v[j][0].x) ^ flip) & (__float_as_uint(v[j][0].y) ^ flip) & (__float_as_uint(v[j][0].z) ^ flip) &
                    (__float_as_uint(v[j][0].w) ^ flip) & 1) pending &= ~(1u << j);
        }
        __syncwarp();
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const float4 in = v[j][0];
#pragma unroll
            for (int n = 0; n < N; n++) {
                if (N > 1) v[j][n] = make_float4(in.x * gain[j][n].x, in.y * gain[j][n].y, in.z * gain[j][n].z, in.w * gain[j][n].w);
                largest[n] = fmaxf(fmaxf(largest[n], fmaxf(fabsf(v[j][n].x), fabsf(v[j][n].y))), fmaxf(fabsf(v[j][n].z), fabsf(v[j][n].w)));
            }
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
            const unsigned bits = __reduce_max_sync(~0u, __float_as_uint(largest[n]));
            if (tid % 32 == 0) raise(base + TOP_AT + 16 * turn + 4 * n, bits);
        }
    }
    readers();
    bool waits = WAITS;
    if (!WAITS) {
#pragma unroll
        for (int n = 0; n < N; n++) waits |= load_float(base + TOP_AT + 16 * turn + 4 * n) < least;
        if (tid == 0) store(base + SAID_AT, 2 * stamp + waits);
    }
    float to[N];
#pragma unroll
    for (int n = 0; n < N; n++) to[n] = fminf(__fdividef(127.0f, load_float(base + TOP_AT + 16 * turn + 4 * n)), 1e30f);
    for (bool again = false;;) {
        if (reads) {
#pragma unroll
            for (int n = 0; n < N; n++) {
                total[n] = 0;
#pragma unroll
                for (int j = 0; j < EACH; j++) {
                    const int at = 4 * (reader + j * READERS), digit = at / M::BYTES;
                    const unsigned low = __byte_perm(__float_as_uint(v[j][n].x * to[n] + MAGIC), __float_as_uint(v[j][n].y * to[n] + MAGIC), 0x0040);
                    const unsigned high = __byte_perm(__float_as_uint(v[j][n].z * to[n] + MAGIC), __float_as_uint(v[j][n].w * to[n] + MAGIC), 0x0040);
                    const unsigned word = __byte_perm(low, high, 0x5410);
                    if (at / 4 < PACKETS) {
                        store(q + (6 * n + digit) * M::PLANE + at - digit * M::BYTES, word);
                        total[n] = __dp4a((int)word, 0x01010101, total[n]);
                    }
                }
            }
        }
        if (!waits || again) {
            readers();
            break;
        }
        together();
        if (!small<N>(base, turn)) break;
        again = true;
#pragma unroll
        for (int n = 0; n < N; n++) to[n] = fminf(to[n], load_float(base + NORM_AT) * 127e5f);
        together();
    }
    if (tid < 3) { store(base + OFFSET_AT + 16 * (turn ^ 1) + 4 * tid, 0); store(base + TOP_AT + 16 * (turn ^ 1) + 4 * tid, 0); }
    share.finish(base, q, 0, tid);
    if (reads)
#pragma unroll
        for (int n = 0; n < N; n++) {
            const int all = __reduce_add_sync(~0u, total[n]);
            if (tid % 32 == 0) add(base + OFFSET_AT + 16 * turn + 4 * n, all);
        }
#pragma unroll 1
    for (int from = M::CHUNK;; from += M::CHUNK) {
        __syncwarp();
        if (tid % 32 == 0)
            asm volatile("{.reg .b64 s; mbarrier.arrive.shared.b64 s, [%0];}" ::"r"(base + EMPTY_AT + 8 * slot.index) : "memory");
        slot.next();
        if (from >= M::ROWS) break;
        share.start(slot, base, from, tid);
        share.finish(base, q, from, tid);
    }
    together();
}

// What an integer product of vector n is worth, before the matrix's scale; and the sum of a row's products, taken away.
__device__ __forceinline__ float worth(unsigned base, unsigned turn, int n) {
    return fmaxf(load_float(base + TOP_AT + 16 * turn + 4 * n) * load_float(base + NORM_AT), 1e-5f) * (1.0f / 127.0f);
}
__device__ __forceinline__ float taken(unsigned base, unsigned turn, int n, int row) {
    const int sum = load(base + SUMS_AT + 4 * row);
    store(base + SUMS_AT + 4 * row, 0);
    return (float)(sum - (int)load(base + OFFSET_AT + 16 * turn + 4 * n));
}
