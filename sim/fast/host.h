// The host at an accelerator's byte streams: bytes that wait for the device, and those that came from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "pipe.h"

struct Host {
    std::deque<uint8_t> sending;
    std::vector<uint8_t> received;

    // Inputs of a cycle.
    template <typename Model> void drive(Model& top) const {
        top.rx___05Fvalid = !sending.empty();
        if (!sending.empty()) top.rx___05Fpayload = sending.front();
        top.tx___05Fready = 1;
    }

    // Outputs of a cycle.
    template <typename Model> void sample(const Model& top) {
        if (!sending.empty() && top.rx___05Fready) sending.pop_front();
        if (top.tx___05Fvalid) received.push_back(top.tx___05Fpayload);
    }

    // Request X of sim/fast/main.cpp, and its reply.
    template <typename Step> void exchange(const std::vector<uint8_t>& request, const uint64_t& cycle, Step step) {
        uint32_t patience;
        std::memcpy(&patience, request.data(), 4);
        sending.insert(sending.end(), request.begin() + 4, request.end());
        received.clear();
        uint64_t progress = cycle;
        size_t before = 0;
        while (cycle - progress < patience && (received.empty() || received.back() != 0)) {
            step();
            if (received.size() + sending.size() != before) {
                before = received.size() + sending.size();
                progress = cycle;
            }
        }
        reply('X', &cycle, 8, received.data(), received.size());
    }
};
