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
// Products: a byte b holds five digits t = weight + 1. With F[e] = floor(b * 3^e / 256), t[e] = F[e] - 3 * F[e - 1], so
//
//     sum of q[e - 1] * t[e]  =  sum of F[e] * q[e - 1]  -  3 * sum of F[e] * q[e],    e = 1..5, q[5] = 0
//
// and an int8 mma takes F without taking digits apart: even columns hold q[e - 1], odd columns q[e]. Its 16 rows are GROUP
// rows of the matrix times 16 / GROUP parts of their columns, each part against its own pair of columns. Sums are exact.

typedef unsigned char byte;
typedef unsigned long long u64;

constexpr int THREADS = 32 * WARPS, READERS = THREADS - 32;  // the last of WARPS warps reads statistics, the others data
constexpr float INNER_EPS = 1e-6f, MAGIC = 1.5f * (1 << 23);  // added, MAGIC rounds to an integer: in the low bits
enum { MIXER, OUT, GATE, DOWN, HEAD, KINDS };

__device__ constexpr int up(int number, int unit) { return (number + unit - 1) / unit * unit; }
__device__ constexpr int most(int a, int b) { return a > b ? a : b; }
__device__ constexpr int power_of_2(int least) { return least <= 1 ? 1 : 2 * power_of_2((least + 1) / 2); }

template <int K_, int TOTAL_, int PARTS_, int OWN_, int VECTORS_, int GROUP_, int CHUNK_>
struct Matrix {  // PARTS matrices [TOTAL, K] below one another; OWN rows of each are a block's; CHUNK rows fill a slot
    static constexpr int K = K_, TOTAL = TOTAL_, OWN = OWN_, VECTORS = VECTORS_, GROUP = GROUP_, CHUNK = CHUNK_;
    static constexpr int ROWS = PARTS_ * OWN_, BYTES = 16 * ((K + 79) / 80), SPLITS = 16 / GROUP;
    static constexpr int COLUMNS = ((BYTES + 31) / 32 + SPLITS - 1) / SPLITS, ACROSS = 32 * SPLITS;
    static constexpr int STRIDE = 32 * ((BYTES + 31) / 32 | 1);  // of rows in a slot: free of bank conflicts
    static constexpr int PLANE = up(BYTES, 128) + 64;            // from one digit's int8 inputs to the next one's
    static_assert(CHUNK % GROUP == 0 && ROWS % GROUP == 0 && (VECTORS == 1 || OWN % GROUP == 0), "groups");
    static_assert(CHUNK * STRIDE <= SLOT_BYTES, "slot");
};
typedef Matrix<HIDDEN, HIDDEN, 3, HIDDEN_ROWS, 3, MIXER_GROUP, MIXER_CHUNK> Mixer;
typedef Matrix<HIDDEN, HIDDEN, 1, HIDDEN_ROWS, 1, OUT_GROUP, OUT_CHUNK> Out;
typedef Matrix<HIDDEN, INNER, 2, INNER_ROWS, 1, GATE_GROUP, GATE_CHUNK> Gate;
typedef Matrix<INNER, HIDDEN, 1, HIDDEN_ROWS, 1, DOWN_GROUP, DOWN_CHUNK> Down;
typedef Matrix<HIDDEN, VOCAB, 1, VOCAB_ROWS, 1, HEAD_GROUP, HEAD_CHUNK> Head;
constexpr int SUMS = most(Mixer::ROWS, most(Gate::ROWS, Head::ROWS));

template <int BEGIN, int LENGTH_, int ROWS_>
struct Vector {  // in `exchange`: the rows' floats, ROWS of each block, and apart from them a sum of squares of each warp that sends
    static constexpr int LENGTH = LENGTH_, ROWS = ROWS_, SENDERS = up(ROWS, 32) / 32, DATA = BEGIN;
    static constexpr int APART = BEGIN + BLOCKS * ROWS, END = APART + up(BLOCKS * SENDERS, 32);
    static_assert(ROWS % 4 == 0, "packets of four");
};
typedef Vector<0, HIDDEN, HIDDEN_ROWS> X;
typedef Vector<X::END, HIDDEN, HIDDEN_ROWS> Mixed;
typedef Vector<Mixed::END, HIDDEN, HIDDEN_ROWS> Middle;
typedef Vector<Middle::END, INNER, INNER_ROWS> Active;
typedef Vector<Active::END, HIDDEN, HIDDEN_ROWS> Final;
constexpr int BEST = Final::END;  // a word of 64 bits a block

// Shared memory, from `shared` on.
constexpr int HIDDEN_Q = 0;                                // int8 inputs of up to three products: a plane a digit, the sixth zero
constexpr int INNER_Q = HIDDEN_Q + 3 * 6 * Mixer::PLANE;   // those of Down
constexpr int SUMS_AT = INNER_Q + 6 * Down::PLANE;         // sums of products; zero between phases
constexpr int OFFSET_AT = SUMS_AT + up(4 * SUMS, 16);      // [2][4]: sums of the int8 inputs, by turns
constexpr int TOP_AT = OFFSET_AT + 32;                     // [2][4]: largest magnitudes, as bits, by turns
constexpr int NORM_AT = TOP_AT + 32;                       // what the norms multiply a vector by; two bests
constexpr int SAID_AT = NORM_AT + 4, FULL_AT = NORM_AT + 32, EMPTY_AT = FULL_AT + 8 * SLOTS, RING_AT = up(EMPTY_AT + 8 * SLOTS, 128);
static_assert(RING_AT + SLOTS * SLOT_BYTES + 128 <= SHARED, "shared memory");

struct Parameters {
    const u64* matrices;   // [LAYERS][4]: addresses of i, f, g; o; gate, up; down
    const float* scales;   // [LAYERS][6]: i, f, g, o, gate, down
    const float* mixer;    // [LAYERS][3][HIDDEN]: gains of i, f, g, each times the attention norm
    const float* bound;    // [LAYERS][HIDDEN]
    const float* gains;    // [LAYERS * 3 + 1][2][HIDDEN]: outer norm and the product of gains before o, gate, the next layer; 0's
    const float* down;     // [LAYERS][INNER]
    const byte* head;
    const float* head_scale;
    const signed char* embedding;
    const float* embedding_scale;
    float* state;          // [LAYERS][HIDDEN]
    float* logits;
    int* chosen;           // by place: the token that passes through the model there
    const int* forced;     // by place: the prompt's token, -1 where the model chooses
    unsigned* exchange;    // zeros before each launch
    float eps;
    int start, steps;
};

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
        asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                     : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
        if (done) return;
    }
}

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
    unsigned* record = exchange + V::DATA + blockIdx.x * V::ROWS;
    if (tid < V::ROWS) put(record + tid, marked(own ? value : 0.0f, parity));
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

__device__ __forceinline__ void mma(int (&c)[4], const unsigned (&a)[4], uint2 b) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}

// A warp's share of a chunk: a run of groups of rows, column after column. What needs no inputs is done before they come.
template <class M>
struct Share {
    unsigned tile;          // of the group and the column that are next
    int group, column, left, groups;
    int low, high;          // a thread's parts of a tile
    unsigned a[5][4];       // its digits, summed up: floor(byte * 3^e / 256)

    __device__ __forceinline__ void decode() {
        const uint2 u = load_two(tile + low), v = load_two(tile + high);
        const unsigned w[4] = {u.x, v.x, u.y, v.y};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const unsigned even = w[i] & 0x00FF00FF, odd = __byte_perm(w[i], 0, 0x4341);
            unsigned power = 1;
#pragma unroll
            for (int e = 0; e < 5; e++) {
                power *= 3;
                a[e][i] = __byte_perm(even * power, odd * power, 0x7351);
            }
        }
    }
    __device__ __forceinline__ void start(const Slot& slot, unsigned base, int from, int tid) {
        const int g = tid % 32 / 4, t = tid % 4;
        constexpr int MASK = M::GROUP - 1;
        low = (g & MASK) * M::STRIDE + g / M::GROUP * 32 + 8 * t;
        high = (g + 8 & MASK) * M::STRIDE + (g + 8) / M::GROUP * 32 + 8 * t;
        constexpr int GROUPS = M::CHUNK / M::GROUP, REST = M::ROWS % M::CHUNK == 0 ? GROUPS : M::ROWS % M::CHUNK / M::GROUP;
        const bool whole = from + M::CHUNK <= M::ROWS;
        const int warp = min(tid / 32, WARPS - 2);
        groups = whole ? GROUPS : REST;
        const int begin = warp * groups * M::COLUMNS / (WARPS - 1), end = (warp + 1) * groups * M::COLUMNS / (WARPS - 1);
        column = whole ? begin / GROUPS : begin / REST;
        group = begin - column * groups;
        left = end - begin;
        await(base + FULL_AT + 8 * slot.index, slot.turn);
        tile = base + RING_AT + slot.index * SLOT_BYTES + group * (M::GROUP * M::STRIDE) + column * M::ACROSS;
        decode();
    }
    __device__ __forceinline__ void finish(unsigned base, unsigned q, int from, int tid) {
        const int g = tid % 32 / 4, t = tid % 4;
        const unsigned inputs = q + (g & 1) * M::PLANE + (g / 2 % M::SPLITS) * 32 + 8 * t;
        const bool first = t == g / M::GROUP, second = t == (g + 8) / M::GROUP;
        while (left) {
            const int vector = M::VECTORS == 1 ? 0 : (from + group * M::GROUP) / M::OWN;
            const int last = M::VECTORS == 1 ? groups : min(groups, ((vector + 1) * M::OWN - from) / M::GROUP);
            int run = min(left, last - group);
            left -= run;
            uint2 b[5];
            const unsigned at = inputs + 6 * vector * M::PLANE + column * M::ACROSS;
#pragma unroll
            for (int e = 0; e < 5; e++) b[e] = load_two(at + e * M::PLANE);
            unsigned to = base + SUMS_AT + 4 * (from + group * M::GROUP + (g & M::GROUP - 1));
            group += run;
#pragma unroll 1
            while (true) {
                int c[2][4] = {};
#pragma unroll
                for (int e = 0; e < 5; e++) mma(c[e & 1], a[e], b[e]);
                tile += M::GROUP * M::STRIDE;
                if (run > 1) decode();
                const int one = c[0][0] + c[1][0] - 3 * (c[0][1] + c[1][1]), two = c[0][2] + c[1][2] - 3 * (c[0][3] + c[1][3]);
                if (M::GROUP < 16) {
                    if (first || second) add(to, first ? one : two);
                } else if (first) {
                    add(to, one);
                    add(to + 32, two);
                }
                to += 4 * M::GROUP;
                if (--run == 0) break;
            }
            if (left) {
                if (group == groups) { group = 0; column++; tile += M::ACROSS - groups * (M::GROUP * M::STRIDE); }
                decode();
            }
        }
    }
};

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
__device__ __forceinline__ void phase(const Parameters& p, unsigned start_of_shared, Slot& slot, const float* gains, unsigned q, float eps,
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
        while (cycle() - began < DELAY) {}
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
        while (cycle() - began < DELAY) {}
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
        for (int n = 0; n < N; n++) waits |= load_float(base + TOP_AT + 16 * turn + 4 * n) < 1e-7f;
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

__device__ u64 largest(u64 key) {
#pragma unroll 1
    for (int mask = 16; mask; mask /= 2) key = max(key, __shfl_xor_sync(~0u, key, mask));
    return key;
}

// The logits from `sums`, the best of all blocks' (the lowest id of equals), and its token on every thread.
__device__ int choose(const Parameters& p, unsigned base, unsigned parity) {
    const int tid = threadIdx.x;
    const float scale = worth(base, 0, 0) * *p.head_scale;
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
                phase<Mixer, X, STRICT>(p, start, slot, p.mixer + 3 * l * HIDDEN, HIDDEN_Q, INNER_EPS * p.eps, parity, 0, began, ++stamp);
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
                phase<Out, Mixed, true>(p, start, slot, nullptr, HIDDEN_Q, INNER_EPS * p.eps, parity, 1, began, ++stamp);
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
                phase<Gate, Middle, STRICT>(p, start, slot, nullptr, HIDDEN_Q, INNER_EPS * p.eps, parity, 0, began, ++stamp);
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
                phase<Down, Active, STRICT>(p, start, slot, nullptr, INNER_Q, INNER_EPS, parity, 1, began, ++stamp);
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
        phase<Head, Final, STRICT>(p, base, slot, nullptr, HIDDEN_Q, INNER_EPS * p.eps, (step + 1) & 1, 0, began, ++stamp);
        const int chosen = choose(p, base, (step + 1) & 1);
        began = cycle();
        token = wanted >= 0 ? wanted : chosen;
        if (blockIdx.x == 0 && tid == 0) p.chosen[p.start + step + 1] = token;
    }
}
