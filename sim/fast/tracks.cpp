// Cycle-accurate simulation of several tracks with a memory of one word a cycle, driven over stdin and stdout like main.cpp.
//
// A request is one byte, a u32 length and that many bytes; so is a reply (same first byte). Little-endian.
//   M  u32 word bytes, u32 stall, image       set the memory; out of 1,024 cycles it stalls in `stall`   -> empty
//   B  u32 patience                           boot, for so many cycles at most                          -> u8 configured, u8 fault code
//   T  u8 track, u32 inv_temperature, u32 seed  sampler of a track                                      -> empty
//   S  u32 patience, TRACKS times u16 token, u8 flags (1 fresh, 2 chain, 4 active)
//                                             run a step                                                -> TRACKS times u16, or empty
//   R  u8 track, u32 address, u32 count       read the state                                            -> i32 each
//   W  u8 track, u32 address, i32 each        write it                                                  -> empty
//   K  -                                      counters                                                  -> u32 each
//   C  -                                      forget what the probes saw                                -> empty
//   P  u8 track, u8 probe                     what a probe saw since then                               -> i32 each

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <vector>

#include "Vmodel.h"
#include "pipe.h"
#include "verilated.h"

// Verilator writes the double underscore of a flattened port name as ___05F.
#define EACH_2(X) X(0) X(1)
#define EACH_3(X) EACH_2(X) X(2)
#define EACH_4(X) EACH_3(X) X(3)
#define EACH_5(X) EACH_4(X) X(4)
#define EACH_6(X) EACH_5(X) X(5)
#define EACH_7(X) EACH_6(X) X(6)
#define EACH_8(X) EACH_7(X) X(7)
#define PASTE(count) EACH_##count
#define EACH(count) PASTE(count)

namespace {

constexpr int COUNTERS = 15, STATE_CYCLES = 6, STEP_BITS = 19;

struct Request {
    uint32_t address, length;
};

Vmodel* top;
uint32_t word_bytes = 16, stall = 0, random_state = 1;
std::vector<uint8_t> memory;
std::deque<Request> requests;
std::vector<int32_t> probes[TRACKS][5];

// Keep the elements of a slice: as many as the port has, of `bits` bits each, signed.
template <typename Port> void keep(std::vector<int32_t>& probe, const Port& port, int bits, int count) {
    uint8_t bytes[sizeof(Port) + 8] = {};
    std::memcpy(bytes, &port, sizeof(Port));
    for (int at = 0; at < count * bits; at += bits) {
        uint64_t window;
        std::memcpy(&window, bytes + at / 8, 8);
        probe.push_back(static_cast<int32_t>(static_cast<uint32_t>(window >> at % 8) << (32 - bits)) >> (32 - bits));
    }
}

template <typename Port> void put(Port& port, int low, int bits, uint32_t value) {
    auto* bytes = reinterpret_cast<uint8_t*>(&port);
    for (int bit = 0; bit < bits; ++bit) {
        const int at = low + bit;
        bytes[at / 8] = static_cast<uint8_t>((bytes[at / 8] & ~(1 << at % 8)) | ((value >> bit & 1) << at % 8));
    }
}

template <typename Port> uint32_t get_bits(const Port& port, int low, int bits) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&port);
    uint32_t value = 0;
    for (int bit = 0; bit < bits; ++bit) value |= static_cast<uint32_t>(bytes[(low + bit) / 8] >> (low + bit) % 8 & 1) << bit;
    return value;
}

bool stalls() {
    if (!stall) return false;
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return (random_state >> 8 & 1023) < stall;
}

// Inputs for this cycle are set, then one clock period passes.
void step() {
    static bool offered = false;
    const bool word = !requests.empty() && (offered || !stalls());
    top->memory___05Frequests___05Fready = 1;
    top->memory___05Fwords___05Fvalid = word;
    if (word) {
        const size_t at = static_cast<size_t>(requests.front().address) * word_bytes;
        if (at + word_bytes <= memory.size()) std::memcpy(&top->memory___05Fwords___05Fpayload, &memory[at], word_bytes);
    }
    top->eval();
    const bool taken = word && top->memory___05Fwords___05Fready;
    offered = word && !taken;
    const bool request = top->memory___05Frequests___05Fvalid;
    const uint64_t wanted = top->memory___05Frequests___05Fpayload;
#define PROBE(T)                                                                                                       \
    if (top->probe___05F##T##___05Factivation_valid) keep(probes[T][0], top->probe___05F##T##___05Factivation, 8, ENGINES); \
    if (top->probe___05F##T##___05Frow_valid) keep(probes[T][1], top->probe___05F##T##___05Frow, 18, ENGINES);              \
    if (top->probe___05F##T##___05Fvalue_valid) keep(probes[T][2], top->probe___05F##T##___05Fvalue, 18, ENGINES);          \
    if (top->probe___05F##T##___05Fvector_valid) keep(probes[T][3], top->probe___05F##T##___05Fvector, 18, ENGINES);        \
    if (top->probe___05F##T##___05Flogit_valid) keep(probes[T][4], top->probe___05F##T##___05Flogit, 18, 1);
    EACH(TRACKS)(PROBE)
    top->clk = 1;
    top->eval();
    top->clk = 0;
    if (taken) {
        ++requests.front().address;
        if (--requests.front().length == 0) requests.pop_front();
    }
    if (request && (wanted >> 32)) requests.push_back({static_cast<uint32_t>(wanted), static_cast<uint32_t>(wanted >> 32)});
}

void set_sampler(unsigned track, uint32_t inv_temperature, uint32_t seed) {
#define SAMPLER(T)                                            \
    if (track == T) {                                         \
        top->inv_temperature___05F##T = inv_temperature;      \
        top->seed___05F##T = seed;                            \
    }                                                         \
    top->reseed___05F##T = track == T;
    EACH(TRACKS)(SAMPLER)
    step();
#define SEEDED(T) top->reseed___05F##T = 0;
    EACH(TRACKS)(SEEDED)
}

uint32_t number(const std::vector<uint8_t>& request, size_t at) {
    uint32_t value;
    std::memcpy(&value, &request[at], 4);
    return value;
}

template <typename T> void append(std::vector<uint8_t>& answer, T value) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    answer.insert(answer.end(), bytes, bytes + sizeof(T));
}

std::vector<uint8_t> boot(uint32_t patience) {
    top->boot___05Fvalid = 1;
    while (patience-- && !top->configured && !top->fault) {
        step();
        top->boot___05Fvalid = 0;  // taken at once after reset
    }
    return {static_cast<uint8_t>(top->configured), static_cast<uint8_t>(top->fault_code)};
}

std::vector<uint8_t> run(const std::vector<uint8_t>& request) {
    uint32_t patience = number(request, 0);
    for (int track = 0; track < TRACKS; ++track) {
        const uint8_t* entry = &request[4 + 3 * track];
        put(top->steps___05Fpayload, STEP_BITS * track, 16, entry[0] | entry[1] << 8);
        put(top->steps___05Fpayload, STEP_BITS * track + 16, 3, entry[2]);
    }
    top->steps___05Fvalid = 1;
    top->results___05Fready = 1;
    bool started = false;
    std::vector<uint8_t> answer;
    while (patience-- && answer.empty()) {
        top->eval();
        started = started || top->steps___05Fready;
        if (top->results___05Fvalid)
            for (int track = 0; track < TRACKS; ++track)
                append(answer, static_cast<uint16_t>(get_bits(top->results___05Fpayload, 16 * track, 16)));
        step();
        if (started) top->steps___05Fvalid = 0;
    }
    top->steps___05Fvalid = 0;
    step();
    step();  // until the counters have counted it
    return answer;
}

std::vector<uint8_t> state(char code, const std::vector<uint8_t>& request) {
    const uint32_t first = number(request, 1);
    const uint32_t count = code == 'R' ? number(request, 5) : (request.size() - 5) / 4;
    std::vector<uint8_t> answer;
    top->track = request[0];
    top->state_access = 1;
    for (uint32_t index = 0; index < count; ++index) {
        top->state_address = first + index;
        if (code == 'W') {
            top->state_data = number(request, 5 + 4 * index) & 0x3FFFF;
            top->state_write = 1;
            step();
            top->state_write = 0;
            continue;
        }
        for (int cycle = 0; cycle < STATE_CYCLES; ++cycle) step();
        append(answer, static_cast<int32_t>(top->state_value << 14) >> 14);
    }
    top->state_access = 0;
    step();
    return answer;
}

std::vector<uint8_t> counters() {
    std::vector<uint8_t> answer;
    for (int index = 0; index < COUNTERS; ++index) {
        top->counter_index = index;
        step();
        step();
        append(answer, static_cast<uint32_t>(top->counter));
    }
    return answer;
}

}  // namespace

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    top = new Vmodel{&context};
    top->clk = 0;

    char code;
    uint32_t length;
    std::vector<uint8_t> request;
    while (get(&code, 1) && get(&length, 4)) {
        request.resize(length);
        if (length && !get(request.data(), length)) break;
        std::vector<uint8_t> answer;
        if (code == 'M') {
            word_bytes = number(request, 0);
            stall = number(request, 4);
            memory.assign(request.begin() + 8, request.end());
        } else if (code == 'B') {
            answer = boot(number(request, 0));
        } else if (code == 'T') {
            set_sampler(request[0], number(request, 1), number(request, 5));
        } else if (code == 'S') {
            answer = run(request);
        } else if (code == 'R' || code == 'W') {
            answer = state(code, request);
        } else if (code == 'K') {
            answer = counters();
        } else if (code == 'C') {
            for (auto& track : probes)
                for (auto& probe : track) probe.clear();
        } else if (code == 'P') {
            const auto& probe = probes[request[0]][request[1]];
            reply('P', nullptr, 0, probe.data(), probe.size() * 4);
            continue;
        } else {
            break;
        }
        reply(code, nullptr, 0, answer.data(), answer.size());
    }
    top->final();
    delete top;
    return 0;
}
