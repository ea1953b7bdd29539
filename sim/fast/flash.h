// A serial flash at a board's pins, as it is after configuration: asleep, quad mode off. A cycle with `clock` high is one pulse.
// It knows what `StartedFlash` sends: 0xAB, 0x50, 0x31, and reading with 0xEB. `violations` counts what a part would not forgive.

#pragma once

#include <cstdint>
#include <cstdio>
#include <vector>

struct Flash {
    static constexpr uint32_t SIZE = 1u << 24, WAKE_CYCLES = 72;  // 3 us at 24 MHz
    std::vector<uint8_t> bytes = std::vector<uint8_t>(SIZE, 0xff);
    bool asleep = true, quad = false, enabled = false;
    uint32_t awake_in = 0, clocks = 0, command = 0, address = 0, value = 0, out = 0;
    long violations = 0;

    bool load(const char* path) {
        std::FILE* file = std::fopen(path, "rb");
        if (!file) return false;
        const size_t count = std::fread(bytes.data(), 1, SIZE, file);
        return std::fclose(file) == 0 && count > 0;
    }

    // A cycle: the board drives `lines` where `driven` says so. What the flash drives in the next one is then in `out`.
    void step(bool clock, bool select, uint32_t lines, uint32_t driven) {
        if (awake_in) --awake_in;
        if (!select) {
            if (clocks) end();
            clocks = command = address = value = 0;
            return;
        }
        if (!clock) return;
        const uint32_t bit = lines & 1;
        if (clocks < 8) {
            if (driven != 0b1101) ++violations;
            command = command << 1 | bit;
            if (clocks == 7 && (awake_in || (asleep && command != 0xAB))) ++violations;
            if (clocks == 7 && command == 0xEB && !quad) ++violations;
        } else if (command == 0xEB) {
            if (driven != (clocks < 16 ? 0b1111u : 0u)) ++violations;
            if (clocks < 14) address = address << 4 | (lines & 15);
        } else {
            value = value << 1 | bit;
        }
        ++clocks;
        if (command == 0xEB && clocks >= 20) {
            const uint8_t byte = bytes[(address + (clocks - 20) / 2) % SIZE];
            out = clocks % 2 ? byte & 15 : byte >> 4;
        }
    }

   private:
    void end() {
        if (command == 0xAB && clocks == 8) {
            asleep = false;
            awake_in = WAKE_CYCLES;
        } else if (command == 0x50 && clocks == 8) {
            enabled = true;
        } else if (command == 0x31 && clocks == 16 && enabled) {
            quad = value & 2;
            enabled = false;
        } else if (command != 0xEB || clocks < 16) {
            ++violations;
        }
    }
};
