// Memories of the fast simulation. Each `Memory` is told the inputs to drive before a cycle is evaluated (`drive`) and looks at the
// outputs before the clock rises (`sample`).

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "Vmodel.h"

#ifndef MEMORY
#define MEMORY 0
#endif

// What all of them have: the image, numbers that only some use, and random ones.
struct Image {
    uint32_t word_bytes = 16;
    uint32_t limits[4] = {0, 0, 0, 0};  // latency, jitter, bytes / 1024 a cycle; cycles of 1,024 in which no word comes
    uint32_t noise = 0x2545F491;
    std::vector<uint8_t> bytes;

    uint32_t random() {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        return noise >> 8;
    }

    void load(const std::vector<uint8_t>& message) {
        std::memcpy(&word_bytes, message.data(), 4);
        bytes.assign(message.begin() + 4, message.end());
    }

    // Copy what lies at `at`; zeros behind the end.
    void copy(void* to, uint64_t at, size_t size) const {
        const size_t here = at < bytes.size() ? std::min<size_t>(size, bytes.size() - at) : 0;
        std::memcpy(to, bytes.data() + at, here);
        std::memset(static_cast<uint8_t*>(to) + here, 0, size - here);
    }
};

#if MEMORY == 0

// A word a cycle without latency, but for random stalls, and writes. A word that is offered stays so until it is taken.
struct Memory : Image {
    struct Request {
        uint32_t address, length;
    };
    std::deque<Request> requests;
    bool offered = false;

    void drive(Vmodel& top) {
        top.memory___05Frequests___05Fready = 1;
        top.memory___05Fwrite___05Fready = 1;
        offered = !requests.empty() && (offered || !limits[3] || (random() & 1023) >= limits[3]);
        top.memory___05Fwords___05Fvalid = offered;
        if (!offered) return;
        const size_t at = static_cast<size_t>(requests.front().address) * word_bytes;
        if (at + word_bytes <= bytes.size()) std::memcpy(&top.memory___05Fwords___05Fpayload, &bytes[at], word_bytes);
    }

    void sample(const Vmodel& top) {
        if (top.memory___05Fwrite___05Fvalid) {
            const auto* payload = reinterpret_cast<const uint8_t*>(&top.memory___05Fwrite___05Fpayload);
            uint32_t address;
            std::memcpy(&address, payload, 4);
            const size_t at = static_cast<size_t>(address) * word_bytes;
            if (at + word_bytes > bytes.size()) bytes.resize(at + word_bytes);
            std::memcpy(&bytes[at], payload + 4, word_bytes);
        }
        if (offered && top.memory___05Fwords___05Fready) {
            offered = false;
            ++requests.front().address;
            if (--requests.front().length == 0) requests.pop_front();
        }
        if (top.restart) {
            requests.clear();
            offered = false;
        }
        const uint64_t wanted = top.memory___05Frequests___05Fpayload;
        if (top.memory___05Frequests___05Fvalid && (wanted >> 32))
            requests.push_back({static_cast<uint32_t>(wanted), static_cast<uint32_t>(wanted >> 32)});
    }
};

#elif MEMORY == 1

// AXI4 ports over which the image is striped as `AXIMemory` says, bases 0. Bursts of a port are answered in order.
struct Memory : Image {
    static constexpr int LINE = PORT_BITS / 8, OUTSTANDING = 16, ADDRESS_BITS = 40, ID_BITS = 4;
    struct Burst {
        uint64_t line, due;
        uint32_t left;
        uint8_t id;
    };
    std::deque<Burst> bursts[PORTS];
    uint64_t now = 0, credit = 0;
    uint32_t turn = 0, ready = 0, valid = 0;

    void drive(Vmodel& top) {
        const uint32_t limit = limits[2] ? limits[2] : 1024 * LINE * PORTS;
        credit = std::min<uint64_t>(credit + limit, 1024 * LINE * PORTS + limit);
        uint32_t last = 0;
        ready = valid = 0;
        auto* data = reinterpret_cast<uint8_t*>(&top.r_data);
        auto* ids = reinterpret_cast<uint8_t*>(&top.r_id);
        for (int step = 0; step < PORTS; ++step) {
            const int port = (turn + step) % PORTS;
            auto& queue = bursts[port];
            if (queue.size() < OUTSTANDING && random() % 4) ready |= 1u << port;
            if (queue.empty() || now < queue.front().due || credit < 1024 * LINE) continue;
            credit -= 1024 * LINE;
            valid |= 1u << port;
            if (queue.front().left == 1) last |= 1u << port;
            uint8_t& pair = ids[port * ID_BITS / 8];
            const int shift = port * ID_BITS % 8;
            pair = (pair & ~(15 << shift)) | queue.front().id << shift;
            copy(data + port * LINE, (queue.front().line * PORTS + port) * LINE, LINE);
        }
        turn = (turn + 1) % PORTS;
        top.ar_ready = ready;
        top.r_valid = valid;
        top.r_last = last;
    }

    void sample(const Vmodel& top) {
        ++now;
        const auto* addresses = reinterpret_cast<const uint8_t*>(&top.ar_addr);
        const auto* lengths = reinterpret_cast<const uint8_t*>(&top.ar_len);
        const auto* ids = reinterpret_cast<const uint8_t*>(&top.ar_id);
        for (int port = 0; port < PORTS; ++port) {
            auto& queue = bursts[port];
            if (valid >> port & 1) {
                ++queue.front().line;
                if (--queue.front().left == 0) queue.pop_front();
            }
            if (top.ar_valid & ready & 1u << port) {
                uint64_t address = 0;
                std::memcpy(&address, addresses + port * ADDRESS_BITS / 8, ADDRESS_BITS / 8);
                const uint64_t due = now + limits[0] + (limits[1] ? random() % (limits[1] + 1) : 0);
                const uint8_t id = ids[port * ID_BITS / 8] >> port * ID_BITS % 8 & 15;
                queue.push_back({address / LINE, due, lengths[port] + 1u, id});
            }
        }
    }
};

#elif MEMORY == 2

// LiteDRAM's model of the chips is in the RTL; it asks for its contents when it starts.
struct Memory : Image {
    void drive(Vmodel&) {}
    void sample(const Vmodel&) {}
};

#elif MEMORY == 3

// A flash that knows the read command of `QSPIMemory`: 20 clocks of command, address, mode and nothing, then nibbles, the upper one first.
struct Memory : Image {
    uint32_t clocks = 0, address = 0, out = 0;

    void drive(Vmodel& top) { top.io_i = out; }

    void sample(const Vmodel& top) {
        if (!top.select) {
            clocks = address = 0;
            return;
        }
        if (!top.clock) return;
        if (clocks >= 8 && clocks < 14) address = address << 4 | (top.io_o & 15);
        ++clocks;
        if (clocks < 20) return;
        uint8_t byte;
        copy(&byte, address + (clocks - 20) / 2, 1);
        out = clocks % 2 ? byte & 15 : byte >> 4;
    }
};

#endif
