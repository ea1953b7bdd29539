// Greedy decoding in one launch: blocks that stay on the GPU run all layers, the head and the choice, token after token.
// `decode.py` compiles this with the constants of a model and a card (`shares.py`), capital letters that are defined nowhere here.
//
// Every block owns rows of every matrix, the same share of each, and keeps its part of the residual and of the state.
// A layer is four phases, each a product whose input every block needs whole:
//
//     mixer  x -> i, f, g -> h      out  g * silu(h) -> x      gate  x -> silu(gate) * up      down  that -> x
//
// Between phases there is no barrier: a block stores what it made into a vector that all blocks read until it is complete.
// A float carries the parity of its use in its lowest bit, so that the data are their own flag and nothing is reset: a
// block writes the next use only after it has the whole of a later phase, which others send after they have read this one.
// Sums of squares, for the norms, travel apart from the vectors: S = (x * norm)^2 + 1e-6 * x^2 holds both norms' sums.
//
// Weights do not depend on activations: one warp of each block copies its rows, in the order of their use, into a ring in
// shared memory and runs ahead as far as the ring holds, through phases, layers and tokens.
//
// Parts: `shape.h` sizes and the layout of memory, `memory.h` shared memory and waiting, `ring.h` the weights' way in,
// `exchange.h` vectors between blocks, `product.h` integer products, `phase.h` a phase. Here: the choice and the kernel.
#include "phase.h"

__device__ __forceinline__ u64 largest(u64 key) {
    const unsigned high = __reduce_max_sync(~0u, (unsigned)(key >> 32));
    return (u64)high << 32 | __reduce_max_sync(~0u, high == (unsigned)(key >> 32) ? (unsigned)key : 0);
}

// The logits from `sums`, the best of all blocks' (the lowest id of equals), and its token on every thread.
__device__ int choose(const Parameters& p, unsigned base, float head_scale, unsigned parity) {
    const int tid = threadIdx.x;
    const float scale = worth(base, 0, 0) * head_scale;
    u64 key = parity;
    for (int row = tid; row < VOCAB_ROWS; row += THREADS) {
        const int id = blockIdx.x * VOCAB_ROWS + row;
        const float logit = taken(base, 0, 0, row) * scale;
        if (id >= VOCAB) break;
        const unsigned bits = __float_as_uint(logit);
        p.logits[id] = logit;
        key = max(key, (u64)(bits ^ ((int)bits < 0 ? ~0u : 1u << 31)) << 32 | (0x7FFFFFFFu - id) << 1 | parity);
    }
    key = largest(key);
    u64 *own_best = (u64*)(shared + NORM_AT + 8), *best = own_best + 1;
    if (tid % 32 == 0) atomicMax(own_best, key);
    if (tid == 0) *best = 0;
    together();
    u64* bests = (u64*)(p.exchange + BEST);
    if (tid == 0) {
        asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(bests + blockIdx.x), "l"(*own_best) : "memory");
        *own_best = 0;
        store(base + OFFSET_AT, 0);
        store(base + TOP_AT, 0);
    }
    key = 0;
    for (int block = tid; block < BLOCKS; block += THREADS) {
        u64 other;
        Patience patience;
        do {
            asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(other) : "l"(bests + block) : "memory");
            patience.wait();
        } while ((other & 1) != parity);
        key = max(key, other);
    }
    key = largest(key);
    if (tid % 32 == 0) atomicMax(best, key);
    together();
    return 0x7FFFFFFF - (int)((unsigned)*best >> 1);
}

extern "C" __global__ void __launch_bounds__(THREADS + 32, 1) decode(const __grid_constant__ Parameters p) {
    const int tid = threadIdx.x;
    const unsigned start = (unsigned)__cvta_generic_to_shared(shared), base = start;
    for (int at = 4 * tid; at < FULL_AT; at += 4 * (THREADS + 32)) store(base + at, 0);
    if (tid < SLOTS) {
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(base + FULL_AT + 8 * tid), "n"(__CUDA_ARCH__ >= 900 ? 1 : 32));
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(base + EMPTY_AT + 8 * tid), "n"(WARPS - 1));
    }
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
    __syncthreads();
    if (tid >= THREADS) {
        fetch(p, base);
        return;
    }
    const int row = blockIdx.x * HIDDEN_ROWS + tid, inner = blockIdx.x * INNER_ROWS + tid;
    const bool holds = tid < HIDDEN_ROWS && row < HIDDEN, active = tid < INNER_ROWS && inner < INNER;
    const bool sends = tid / 32 * 32 < HIDDEN_ROWS, sends_inner = tid / 32 * 32 < INNER_ROWS;  // whole warps
    Slot slot;
    unsigned use = 0, stamp = 0, began = cycle();
    const float head_scale = *p.head_scale;
    float x = 0;
    int token = p.chosen[p.start];
#pragma unroll 1
    for (int step = 0; step < p.steps; step++) {
        const int wanted = p.forced[p.start + step + 1];
        if (holds) x = p.embedding[(size_t)token * HIDDEN + row] * p.embedding_scale[token];
        if (sends) {
            const float through = holds ? x * p.gains[6 * LAYERS * HIDDEN + row] : 0.0f;
            send<X>(p.exchange, tid, holds, x, through * through + INNER_EPS * x * x, (use + 1) & 1);
        }
#pragma unroll 1
        for (int layer = 0; layer < LAYERS; layer++) {
            const unsigned parity = ++use & 1;
            {
                float norm = 0, gain = 0, low = 0, before = 0, scale[3] = {};
                const int l = opaque(layer), at = opaque(row);
                if (holds) {
                    const float* gains = p.gains + 6 * l * HIDDEN + at;
                    norm = gains[0], gain = gains[HIDDEN], low = p.bound[l * HIDDEN + at], before = p.state[l * HIDDEN + at];
                    for (int n = 0; n < 3; n++) scale[n] = p.scales[6 * l + n];
                }
                phase<Mixer, X, STRICT>(p, start, slot, p.mixer + 3 * l * HIDDEN, HIDDEN_Q, INNER_EPS * p.eps, LEAST, parity, 0, began, ++stamp);
                began = cycle();
                const unsigned base = opaque(start);
                if (sends) {
                    float g = 0, mixed = 0;
                    if (tid < HIDDEN_ROWS) {
                        const float i = taken(base, 0, 0, tid) * (worth(base, 0, 0) * scale[0]);
                        const float f = taken(base, 0, 1, HIDDEN_ROWS + tid) * (worth(base, 0, 1) * scale[1]);
                        g = taken(base, 0, 2, 2 * HIDDEN_ROWS + tid) * (worth(base, 0, 2) * scale[2]);
                        const float forget = low + (1.0f - low) * sigmoid(f);
                        const float h = forget * before + i * sigmoid(i) * (1.0f - forget);
                        mixed = g * h * sigmoid(h);
                        before = h;
                    }
                    const float through = mixed * norm;
                    send<Mixed>(p.exchange, tid, holds, mixed * gain, through * through + INNER_EPS * g * g, parity);
                    if (holds) p.state[l * HIDDEN + at] = before;
                }
            }
            {
                float norm = 0, gain = 0, scale = 0;
                const int l = opaque(layer), at = opaque(row);
                if (holds) norm = p.gains[(6 * l + 2) * HIDDEN + at], gain = p.gains[(6 * l + 3) * HIDDEN + at], scale = p.scales[6 * l + 3];
                phase<Out, Mixed, STRICT>(p, start, slot, nullptr, HIDDEN_Q, INNER_EPS * p.eps, p.least, parity, 1, began, ++stamp);
                began = cycle();
                const unsigned base = opaque(start);
                if (sends) {
                    if (tid < HIDDEN_ROWS) x += taken(base, 1, 0, tid) * (worth(base, 1, 0) * scale);
                    const float through = x * norm;
                    send<Middle>(p.exchange, tid, holds, x * gain, through * through + INNER_EPS * x * x, parity);
                }
            }
            {
                float gain = 0, scale = 0;
                const int l = opaque(layer), at = opaque(inner);
                if (active) gain = p.down[l * INNER + at], scale = p.scales[6 * l + 4];
                phase<Gate, Middle, STRICT>(p, start, slot, nullptr, HIDDEN_Q, INNER_EPS * p.eps, LEAST, parity, 0, began, ++stamp);
                began = cycle();
                const unsigned base = opaque(start);
                if (sends_inner) {
                    float m = 0;
                    if (tid < INNER_ROWS) {
                        const float unit = worth(base, 0, 0) * scale, y = taken(base, 0, 0, tid) * unit;
                        m = y * sigmoid(y) * (taken(base, 0, 0, INNER_ROWS + tid) * unit);
                    }
                    send<Active>(p.exchange, tid, active, m * gain, m * m, parity);
                }
            }
            {
                const bool last = layer == LAYERS - 1;
                float norm = 0, gain = 0, scale = 0;
                const int l = opaque(layer), at = opaque(row);
                if (holds) norm = p.gains[(6 * l + 4) * HIDDEN + at], gain = p.gains[(6 * l + 5) * HIDDEN + at], scale = p.scales[6 * l + 5];
                phase<Down, Active, STRICT>(p, start, slot, nullptr, INNER_Q, INNER_EPS, LEAST, parity, 1, began, ++stamp);
                began = cycle();
                const unsigned base = opaque(start);
                if (sends) {
                    if (tid < HIDDEN_ROWS) x += taken(base, 1, 0, tid) * (worth(base, 1, 0) * scale);
                    const float through = x * norm, square = through * through + INNER_EPS * x * x;
                    if (last) send<Final>(p.exchange, tid, holds, x * gain, square, (step + 1) & 1);
                    else send<X>(p.exchange, tid, holds, x, square, (use + 1) & 1);
                }
            }
        }
        phase<Head, Final, STRICT>(p, base, slot, nullptr, HIDDEN_Q, INNER_EPS * p.eps, LEAST, (step + 1) & 1, 0, began, ++stamp);
        const int chosen = choose(p, base, head_scale, (step + 1) & 1);
        began = cycle();
        token = wanted >= 0 ? wanted : chosen;
        if (blockIdx.x == 0 && tid == 0) p.chosen[p.start + step + 1] = token;
    }
}
