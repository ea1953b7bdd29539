// Integer products of a chunk of packed rows, five digits a byte, on the tensor cores.
//
// A byte b holds five digits t = weight + 1. With F[e] = floor(b * 3^e / 256), t[e] = F[e] - 3 * F[e - 1], so
//
//     sum of q[e - 1] * t[e]  =  sum of F[e] * q[e - 1]  -  3 * sum of F[e] * q[e],    e = 1..5, q[5] = 0
//
// and an int8 mma takes F without taking digits apart: even columns hold q[e - 1], odd columns q[e]. Its 16 rows are GROUP
// rows of the matrix times 16 / GROUP parts of their columns, each part against its own pair of columns. Sums are exact.
#pragma once
#include "ring.h"

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
