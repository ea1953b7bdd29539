// Cycle-accurate simulation of the accelerator and its memory, driven over stdin and stdout. Macros: ENGINES; TRACKS; MEMORY, the
// kind of memory (sim/fast/memory.py); PORTS and PORT_BITS of AXI.
//
// A request is one byte, a u32 length and that many bytes; so is a reply (same first byte). Little-endian.
//   M  u32 groups, image             set the memory                                -> empty
//   X  u32 patience, bytes           queue bytes for the host link, run until a
//                                    whole frame (up to a zero byte) came back, or
//                                    nothing moved on the link for so many cycles  -> u64 cycle, bytes
//   C  -                             forget what the probes saw                    -> empty
//   P  u8 probe                      what a probe saw since then (of one track)    -> i32 each
//   I  u32 cycles                    run idle                                      -> empty
//   L  u32 latency, jitter, limit    of AXI, in cycles and bytes / 1024 a cycle    -> empty
// In a model built with tracing, argv[1] names the FST file.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "Vmodel.h"
#include "memories.h"
#include "pipe.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

// Verilator writes the double underscore of a flattened port name as ___05F.
namespace {

Vmodel* top;
uint64_t cycle = 0;
Memory memory;
std::vector<int32_t> probes[5];
#if VM_TRACE
VerilatedFstC* trace;
#endif

std::deque<uint8_t> sending;
std::vector<uint8_t> received;

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

// Inputs for this cycle are set, then one clock period passes.
void step() {
    top->rx___05Fvalid = !sending.empty();
    if (!sending.empty()) top->rx___05Fpayload = sending.front();
    top->tx___05Fready = 1;
    memory.drive(*top);
    top->eval();
    memory.sample(*top);
    if (!sending.empty() && top->rx___05Fready) sending.pop_front();
    if (top->tx___05Fvalid) received.push_back(top->tx___05Fpayload);
#if TRACKS == 1
    if (top->probe___05Factivation_valid) keep(probes[0], top->probe___05Factivation, 8, ENGINES);
    if (top->probe___05Frow_valid) keep(probes[1], top->probe___05Frow, 18, ENGINES);
    if (top->probe___05Fvalue_valid) keep(probes[2], top->probe___05Fvalue, 18, ENGINES);
    if (top->probe___05Fvector_valid) keep(probes[3], top->probe___05Fvector, 18, ENGINES);
    if (top->probe___05Flogit_valid) keep(probes[4], top->probe___05Flogit, 18, 1);
#endif
#if VM_TRACE
    if (trace) trace->dump(cycle * 2);
#endif
    top->clk = 1;
    top->eval();
#if VM_TRACE
    if (trace) trace->dump(cycle * 2 + 1);
#endif
    top->clk = 0;
    ++cycle;
}

void exchange(const std::vector<uint8_t>& request) {
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

}  // namespace

#if MEMORY == 2
// What the model of the chips begins with (sim/memory/litedram_model.py).
extern "C" long long tritape_bytes(long long at) {
    int64_t value;
    memory.copy(&value, static_cast<uint64_t>(at), sizeof value);
    return value;
}

extern "C" int tritape_size() { return static_cast<int>(memory.bytes.size()); }
#endif

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    top = new Vmodel{&context};
#if VM_TRACE
    if (argc > 1) {
        context.traceEverOn(true);
        trace = new VerilatedFstC;
        top->trace(trace, 99);
        trace->open(argv[1]);
    }
#endif
    top->clk = 0;

    char code;
    uint32_t length;
    std::vector<uint8_t> request;
    while (get(&code, 1) && get(&length, 4)) {
        request.resize(length);
        if (length && !get(request.data(), length)) break;
        if (code == 'M') {
            memory.load(request);
            reply('M', nullptr, 0, nullptr, 0);
        } else if (code == 'X') {
            exchange(request);
        } else if (code == 'C') {
            for (auto& probe : probes) probe.clear();
            reply('C', nullptr, 0, nullptr, 0);
        } else if (code == 'P') {
            const auto& probe = probes[request[0]];
            reply('P', nullptr, 0, probe.data(), probe.size() * 4);
        } else if (code == 'I') {
            uint32_t cycles;
            std::memcpy(&cycles, request.data(), 4);
            while (cycles--) step();
            reply('I', nullptr, 0, nullptr, 0);
        } else if (code == 'L') {
            std::memcpy(memory.limits, request.data(), sizeof memory.limits);
            reply('L', nullptr, 0, nullptr, 0);
        } else {
            break;
        }
    }
#if VM_TRACE
    if (trace) trace->close();
#endif
    top->final();
    delete top;
    return 0;
}
