// The weights' way into a block: a ring of slots in shared memory and the warp that fills it.
#pragma once
#include "memory.h"

struct Slot {  // where a warp stands in the ring; `turn` is the parity of the use
    int index = 0;
    unsigned turn = 0;
    __device__ __forceinline__ void next() { if (++index == SLOTS) { index = 0; turn ^= 1; } }
};

struct Kind { int own, rows, total, bytes, chunk, stride; };
template <class M>
__device__ constexpr Kind kind_of() { return Kind{M::OWN, M::ROWS, M::TOTAL, M::BYTES, M::CHUNK, M::STRIDE}; }
__constant__ Kind kinds[KINDS] = {kind_of<Mixer>(), kind_of<Out>(), kind_of<Gate>(), kind_of<Down>(), kind_of<Head>()};

// The fetching warp: this block's rows of all products, in the order of their use.
__device__ void fetch(const Parameters& p, unsigned base) {
    const int lane = threadIdx.x & 31;
    Slot slot;
    int kind = MIXER, layer = 0;
    for (int step = 0; step < p.steps;) {
        const Kind k = kinds[kind];
        const int first = blockIdx.x * k.own;
        const byte* data = kind == HEAD ? p.head : (const byte*)p.matrices[4 * layer + kind];
        for (int from = 0; from < k.rows; from += k.chunk) {
            await(base + EMPTY_AT + 8 * slot.index, slot.turn ^ 1);
            const unsigned to = base + RING_AT + slot.index * SLOT_BYTES, whole = base + FULL_AT + 8 * slot.index;
            const int end = min(k.rows, from + k.chunk);
#if __CUDA_ARCH__ >= 900
            int bytes = 0;
#pragma unroll 1
            for (int row = from + lane; row < up(end - from, 32) + from; row += 32) {
                const int part = (row >= k.own) + (row >= 2 * k.own), own = first + row - part * k.own;
                bytes += k.bytes * __popc(__ballot_sync(~0u, row < end && own < k.total));
            }
            if (lane == 0)
                asm volatile("{.reg .b64 s; mbarrier.arrive.expect_tx.shared.b64 s, [%0], %1;}" ::"r"(whole), "r"(bytes) : "memory");
            __syncwarp();
#endif
#pragma unroll 1
            for (int row = from + lane; row < end; row += 32) {
                const int part = (row >= k.own) + (row >= 2 * k.own), own = first + row - part * k.own;
                const byte* source = data + (size_t)(part * k.total + own) * k.bytes;
                const unsigned target = to + (row - from) * k.stride;
                if (own >= k.total) continue;
#if __CUDA_ARCH__ >= 900
                asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                             ::"r"(target), "l"(source), "r"(k.bytes), "r"(whole) : "memory");
#else
                for (int byte = 0; byte < k.bytes; byte += 16)
                    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target + byte), "l"(source + byte) : "memory");
#endif
            }
#if __CUDA_ARCH__ < 900
            asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(whole) : "memory");
#endif
            slot.next();
        }
        if (kind == HEAD) { kind = MIXER; layer = 0; step++; }
        else if (kind == DOWN && ++layer == LAYERS) kind = HEAD;
        else kind = (kind + 1) & 3;
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
}
