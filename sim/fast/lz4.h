// LZ4 block compression (the part of the library's interface that Verilator's FST writer calls), so that waveforms need
// no package of the system. Greedy: the last place of every four bytes is remembered by hash.
// Format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

// Most bytes that a block of `size` bytes can become: literals with one more length byte per 255, and the token.
inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

// Compresses `size` bytes; returns the block's length, or 0 where `room` is less than LZ4_compressBound(size).
inline int LZ4_compress_default(const char* source, char* target, int size, int room) {
    constexpr int HASH_BITS = 12, FURTHEST = 65535, LEAST = 4;
    constexpr int LAST_LITERALS = 5, NO_MATCH_FROM = 12;  // the format's rules for a block's end
    if (room < LZ4_compressBound(size)) return 0;
    std::vector<int> seen(1 << HASH_BITS, -1);
    char* out = target;
    const auto length = [&out](int value) {  // what does not fit the token's four bits
        for (value -= 15; value >= 255; value -= 255) *out++ = static_cast<char>(255);
        *out++ = static_cast<char>(value);
    };
    const auto literals = [&](int from, int to, int match) {
        const int count = to - from;
        *out++ = static_cast<char>((count < 15 ? count : 15) << 4 | (match < 15 ? match : 15));
        if (count >= 15) length(count);
        if (count) std::memcpy(out, source + from, count);
        out += count;
    };
    int done = 0;  // bytes that are in the block
    for (int at = 0; at + NO_MATCH_FROM < size;) {
        uint32_t four;
        std::memcpy(&four, source + at, LEAST);
        int& place = seen[four * 2654435761u >> (32 - HASH_BITS)];
        const int before = place;
        place = at;
        if (before < 0 || at - before > FURTHEST || std::memcmp(source + before, source + at, LEAST) != 0) {
            ++at;
            continue;
        }
        int same = LEAST;
        while (at + same < size - LAST_LITERALS && source[before + same] == source[at + same]) ++same;
        literals(done, at, same - LEAST);
        *out++ = static_cast<char>(at - before);
        *out++ = static_cast<char>((at - before) >> 8);
        if (same - LEAST >= 15) length(same - LEAST);
        done = at += same;
    }
    literals(done, size, 0);
    return static_cast<int>(out - target);
}
