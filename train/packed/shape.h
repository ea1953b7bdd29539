// What the constants make: matrices, vectors and the layout of shared memory, known when the kernel is compiled.
#pragma once

typedef unsigned char byte;
typedef unsigned long long u64;

constexpr int THREADS = 32 * WARPS, READERS = THREADS - 32;  // the last of WARPS warps reads statistics, the others data
constexpr float INNER_EPS = 1e-6f, LEAST = 1e-7f, MAGIC = 1.5f * (1 << 23);  // added, MAGIC rounds to an integer: in the low bits
enum { MIXER, OUT, GATE, DOWN, HEAD, KINDS };

__device__ constexpr int up(int number, int unit) { return (number + unit - 1) / unit * unit; }
__device__ constexpr int most(int a, int b) { return a > b ? a : b; }
__device__ constexpr int power_of_2(int least) { return least <= 1 ? 1 : 2 * power_of_2((least + 1) / 2); }

template <int K_, int TOTAL_, int PARTS_, int OWN_, int VECTORS_, int GROUP_, int CHUNK_, int DELAY_>
struct Matrix {  // PARTS matrices [TOTAL, K] below one another; OWN rows of each are a block's; CHUNK rows fill a slot
    static constexpr int K = K_, TOTAL = TOTAL_, OWN = OWN_, VECTORS = VECTORS_, GROUP = GROUP_, CHUNK = CHUNK_;
    static constexpr int DELAY = DELAY_;                         // cycles from the end of the phase before to the first read
    static constexpr int ROWS = PARTS_ * OWN_, BYTES = 16 * ((K + 79) / 80), SPLITS = 16 / GROUP;
    static constexpr int COLUMNS = ((BYTES + 31) / 32 + SPLITS - 1) / SPLITS, ACROSS = 32 * SPLITS;
    static constexpr int STRIDE = 32 * ((BYTES + 31) / 32 | 1);  // of rows in a slot: free of bank conflicts
    static constexpr int PLANE = up(BYTES, 128) + 64;            // from one digit's int8 inputs to the next one's
    static_assert(CHUNK % GROUP == 0 && ROWS % GROUP == 0 && (VECTORS == 1 || OWN % GROUP == 0), "groups");
    static_assert(CHUNK * STRIDE <= SLOT_BYTES, "slot");
};
typedef Matrix<HIDDEN, HIDDEN, 3, HIDDEN_ROWS, 3, MIXER_GROUP, MIXER_CHUNK, MIXER_DELAY> Mixer;
typedef Matrix<HIDDEN, HIDDEN, 1, HIDDEN_ROWS, 1, OUT_GROUP, OUT_CHUNK, OUT_DELAY> Out;
typedef Matrix<HIDDEN, INNER, 2, INNER_ROWS, 1, GATE_GROUP, GATE_CHUNK, GATE_DELAY> Gate;
typedef Matrix<INNER, HIDDEN, 1, HIDDEN_ROWS, 1, DOWN_GROUP, DOWN_CHUNK, DOWN_DELAY> Down;
typedef Matrix<HIDDEN, VOCAB, 1, VOCAB_ROWS, 1, HEAD_GROUP, HEAD_CHUNK, HEAD_DELAY> Head;
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
constexpr int BEST = up(Final::END, 32);  // a word of 64 bits a block

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
    float least;           // LEAST of the vector before o: larger, for its norm is that of g, not of itself
    int start, steps;
};
