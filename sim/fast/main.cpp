// Cycle-accurate simulation of the accelerator with an ideal memory of one word a cycle, driven over stdin and stdout.
//
// A request is one byte, a u32 length and that many bytes; so is a reply (same first byte). Little-endian.
//   M  u32 groups, image             set the memory                                -> empty
//   X  u32 replies wanted, bytes     send bytes to the host link, run until so many
//                                    bytes came back                               -> u64 cycle, bytes
//   P  u8 probe                      what a probe saw since bytes were last sent   -> i32 each
//   I  u32 cycles                    run idle                                      -> empty
// A run that makes no progress for SILENCE cycles ends with reply 'E' and a text.
// In a model built with tracing, argv[1] names the FST file.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "Vmodel.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

// Verilator writes the double underscore of a flattened port name as ___05F.
namespace {

constexpr uint64_t SILENCE = 2'000'000;

struct Request {
    uint32_t address, length;
};

Vmodel* top;
uint64_t cycle = 0;
uint32_t groups = 16;
std::vector<uint8_t> memory;
std::deque<Request> requests;
std::vector<int32_t> probes[5];
#if VM_TRACE
VerilatedFstC* trace;
#endif

const uint8_t* send = nullptr;
size_t to_send = 0;
std::vector<uint8_t> received;

int32_t extend(uint32_t value, int bits) { return static_cast<int32_t>(value << (32 - bits)) >> (32 - bits); }

// Inputs for this cycle are set, then one clock period passes.
void step() {
    top->rx___05Fvalid = to_send != 0;
    if (to_send) top->rx___05Fpayload = *send;
    top->tx___05Fready = 1;
    top->memory___05Frequests___05Fready = 1;
    top->memory___05Fwrite___05Fready = 1;
    const bool word = !requests.empty();
    top->memory___05Fwords___05Fvalid = word;
    if (word) {
        const size_t at = static_cast<size_t>(requests.front().address) * groups;
        if (at + groups <= memory.size()) std::memcpy(&top->memory___05Fwords___05Fpayload, &memory[at], groups);
    }
    top->eval();
    const bool word_taken = word && top->memory___05Fwords___05Fready;
    const bool request = top->memory___05Frequests___05Fvalid;
    const bool restart = top->restart;
    const uint64_t wanted = top->memory___05Frequests___05Fpayload;
    if (to_send && top->rx___05Fready) {
        ++send;
        --to_send;
    }
    if (top->tx___05Fvalid) received.push_back(top->tx___05Fpayload);
    if (top->memory___05Fwrite___05Fvalid) {
        const auto* payload = reinterpret_cast<const uint8_t*>(&top->memory___05Fwrite___05Fpayload);
        uint32_t address;
        std::memcpy(&address, payload, 4);
        const size_t at = static_cast<size_t>(address) * groups;
        if (at + groups > memory.size()) memory.resize(at + groups);
        std::memcpy(&memory[at], payload + 4, groups);
    }
    if (top->probe___05Factivation_valid) probes[0].push_back(extend(top->probe___05Factivation, 8));
    if (top->probe___05Frow_valid) probes[1].push_back(extend(top->probe___05Frow, 18));
    if (top->probe___05Fvalue_valid) probes[2].push_back(extend(top->probe___05Fvalue, 18));
    if (top->probe___05Fvector_valid) probes[3].push_back(extend(top->probe___05Fvector, 18));
    if (top->probe___05Flogit_valid) probes[4].push_back(extend(top->probe___05Flogit, 18));
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
    if (word_taken) {
        ++requests.front().address;
        if (--requests.front().length == 0) requests.pop_front();
    }
    if (restart) requests.clear();
    if (request && (wanted >> 32)) requests.push_back({static_cast<uint32_t>(wanted), static_cast<uint32_t>(wanted >> 32)});
}

bool get(void* data, size_t size) { return std::fread(data, 1, size, stdin) == size; }

void reply(char code, const void* head, size_t head_size, const void* data, size_t size) {
    const uint32_t length = static_cast<uint32_t>(head_size + size);
    std::fwrite(&code, 1, 1, stdout);
    std::fwrite(&length, 4, 1, stdout);
    if (head_size) std::fwrite(head, 1, head_size, stdout);
    if (size) std::fwrite(data, 1, size, stdout);
    std::fflush(stdout);
}

void exchange(const std::vector<uint8_t>& request) {
    uint32_t wanted;
    std::memcpy(&wanted, request.data(), 4);
    send = request.data() + 4;
    to_send = request.size() - 4;
    received.clear();
    if (to_send) {
        for (auto& probe : probes) probe.clear();
    }
    uint64_t progress = cycle;
    size_t before = 0;
    while (to_send || received.size() < wanted) {
        step();
        if (received.size() + to_send != before) {
            before = received.size() + to_send;
            progress = cycle;
        } else if (cycle - progress > SILENCE) {
            const std::string text = "accelerator must answer, not stay silent for " + std::to_string(SILENCE) + " cycles";
            return reply('E', nullptr, 0, text.data(), text.size());
        }
    }
    reply('X', &cycle, 8, received.data(), received.size());
}

}  // namespace

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
            std::memcpy(&groups, request.data(), 4);
            memory.assign(request.begin() + 4, request.end());
            reply('M', nullptr, 0, nullptr, 0);
        } else if (code == 'X') {
            exchange(request);
        } else if (code == 'P') {
            const auto& probe = probes[request[0]];
            reply('P', nullptr, 0, probe.data(), probe.size() * 4);
        } else if (code == 'I') {
            uint32_t cycles;
            std::memcpy(&cycles, request.data(), 4);
            while (cycles--) step();
            reply('I', nullptr, 0, nullptr, 0);
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
