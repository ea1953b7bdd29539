// Cycle-accurate simulation of the accelerator and its memory, driven over stdin and stdout. Macros: ENGINES; BATCH, 16 at most;
// MEMORY, the kind of memory (sim/fast/memory.py); PORTS and PORT_BITS of AXI; DIRECT, whether to pass by Verilator's `eval`.
//
// A request is one byte, a u32 length and that many bytes; so is a reply (same first byte). Little-endian.
//   M  u32 groups, image             set the memory                                -> empty
//   X  u32 patience, bytes           queue bytes for the host link, run until a
//                                    whole frame (up to a zero byte) came back, or
//                                    nothing moved on the link for so many cycles  -> u64 cycle, bytes
//   C  -                             forget what the probes saw                    -> empty
//   P  u8 slot, u8 probe            what a probe of a slot saw since then        -> i32 each
//   I  u32 cycles                    run idle                                      -> empty
//   L  u32 latency, jitter, limit,   of AXI, in cycles and bytes / 1024 a cycle;
//      u32 stall                     of the ideal memory, in cycles of 1,024       -> empty
// In a model built with tracing, argv[1] names the FST file.
//
// With DIRECT a cycle is two calls into the model: what hangs on inputs, then the registers and what hangs on them. `eval` would do the
// first twice, and lock and unlock what a single thread needs no lock for.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "Vmodel.h"
#include "host.h"
#include "memories.h"
#include "pipe.h"
#include "verilated.h"
#if DIRECT
#include "Vmodel___024root.h"
void Vmodel___024root___eval_ico(Vmodel___024root*);
void Vmodel___024root___eval_nba(Vmodel___024root*);
#endif
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

// Verilator writes the double underscore of a flattened port name as ___05F. EACH(BATCH) repeats a macro for every slot, with its
// number and what the names of its probes begin with.
#define SLOT(X, number) X(number, probe___05F##number##___05F)
#define EACH_1(X) X(0, probe___05F)
#define EACH_2(X) SLOT(X, 0) SLOT(X, 1)
#define EACH_3(X) EACH_2(X) SLOT(X, 2)
#define EACH_4(X) EACH_3(X) SLOT(X, 3)
#define EACH_5(X) EACH_4(X) SLOT(X, 4)
#define EACH_6(X) EACH_5(X) SLOT(X, 5)
#define EACH_7(X) EACH_6(X) SLOT(X, 6)
#define EACH_8(X) EACH_7(X) SLOT(X, 7)
#define EACH_9(X) EACH_8(X) SLOT(X, 8)
#define EACH_10(X) EACH_9(X) SLOT(X, 9)
#define EACH_11(X) EACH_10(X) SLOT(X, 10)
#define EACH_12(X) EACH_11(X) SLOT(X, 11)
#define EACH_13(X) EACH_12(X) SLOT(X, 12)
#define EACH_14(X) EACH_13(X) SLOT(X, 13)
#define EACH_15(X) EACH_14(X) SLOT(X, 14)
#define EACH_16(X) EACH_15(X) SLOT(X, 15)
#define PASTE(count) EACH_##count
#define EACH(count) PASTE(count)

namespace {

Vmodel* top;
uint64_t cycle = 0;
Memory memory;
std::vector<int32_t> probes[BATCH][5];
#if VM_TRACE
VerilatedFstC* trace;
#endif

Host host;

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

// Outputs follow inputs.
void settle() {
#if DIRECT
    top->rootp->__VicoTriggered[0] = 1;
    Vmodel___024root___eval_ico(top->rootp);
#else
    top->eval();
#endif
}

// The clock rises, and falls.
void tick() {
#if DIRECT
    top->rootp->__VnbaTriggered[0] = 1;
    Vmodel___024root___eval_nba(top->rootp);
#else
    top->clk = 1;
    top->eval();
#if VM_TRACE
    if (trace) trace->dump(cycle * 2 + 1);
#endif
    top->clk = 0;
#endif
}

// Inputs for this cycle are set, then one clock period passes.
void step() {
    host.drive(*top);
    memory.drive(*top);
    settle();
    memory.sample(*top);
    host.sample(*top);
#define KEEP(T, NAMES)                                                                        \
    if (top->NAMES##activation_valid) keep(probes[T][0], top->NAMES##activation, 8, ENGINES); \
    if (top->NAMES##row_valid) keep(probes[T][1], top->NAMES##row, 18, ENGINES);              \
    if (top->NAMES##value_valid) keep(probes[T][2], top->NAMES##value, 18, ENGINES);          \
    if (top->NAMES##vector_valid) keep(probes[T][3], top->NAMES##vector, 18, ENGINES);        \
    if (top->NAMES##logit_valid) keep(probes[T][4], top->NAMES##logit, 18, 1);
    EACH(BATCH)(KEEP)
#if VM_TRACE
    if (trace) trace->dump(cycle * 2);
#endif
    tick();
    ++cycle;
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
#if DIRECT
    top->eval();  // initial values
#endif

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
            host.exchange(request, cycle, step);
        } else if (code == 'C') {
            for (auto& slot : probes)
                for (auto& probe : slot) probe.clear();
            reply('C', nullptr, 0, nullptr, 0);
        } else if (code == 'P') {
            const auto& probe = probes[request[0]][request[1]];
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
