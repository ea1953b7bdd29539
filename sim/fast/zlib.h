// The part of zlib's interface that Verilator's FST writer calls, so that waveforms need no package of the system.
// Nothing is compressed: the stream holds stored blocks, and the writer then takes the plain bytes, which are shorter.
// Format: RFC 1950 and RFC 1951.
#pragma once
#include <cstdint>
#include <cstring>

using Bytef = uint8_t;
using uLong = unsigned long;
using uLongf = unsigned long;
constexpr int Z_OK = 0, Z_BUF_ERROR = -5;
constexpr uLong STORED_BLOCK = 65535;

// Bytes of the stream for `size` bytes: header, blocks of five bytes and their data, check sum.
inline uLong compressBound(uLong size) { return 2 + (size / STORED_BLOCK + 1) * 5 + size + 4; }

// Writes the stream for `size` bytes and sets `*room` to its length; Z_BUF_ERROR where the room is too small.
inline int compress2(Bytef* target, uLongf* room, const Bytef* source, uLong size, int /*level*/) {
    if (*room < compressBound(size)) return Z_BUF_ERROR;
    Bytef* out = target;
    *out++ = 0x78;
    *out++ = 0x01;
    uint32_t a = 1, b = 0;  // Adler-32
    for (uLong at = 0, last = 0; !last;) {
        const uLong count = size - at < STORED_BLOCK ? size - at : STORED_BLOCK;
        last = at + count == size;
        const Bytef head[5] = {Bytef(last), Bytef(count), Bytef(count >> 8), Bytef(~count), Bytef(~count >> 8)};
        std::memcpy(out, head, 5);
        if (count) std::memcpy(out + 5, source + at, count);
        out += 5 + count;
        for (const uLong end = at + count; at < end; ++at) {
            a = (a + source[at]) % 65521;
            b = (b + a) % 65521;
        }
    }
    for (const uint32_t part : {b >> 8, b, a >> 8, a}) *out++ = Bytef(part);
    *room = out - target;
    return Z_OK;
}
