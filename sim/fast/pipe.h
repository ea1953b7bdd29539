// Requests and replies over stdin and stdout: one byte, a u32 length and that many bytes, little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>

inline bool get(void* data, size_t size) { return std::fread(data, 1, size, stdin) == size; }

inline void reply(char code, const void* head, size_t head_size, const void* data, size_t size) {
    const uint32_t length = static_cast<uint32_t>(head_size + size);
    std::fwrite(&code, 1, 1, stdout);
    std::fwrite(&length, 4, 1, stdout);
    if (head_size) std::fwrite(head, 1, head_size, stdout);
    if (size) std::fwrite(data, 1, size, stdout);
    std::fflush(stdout);
}
