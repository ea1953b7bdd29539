// The accelerator of the fault campaign behind an AXI memory that breaks the rules once, on request. Macro: BATCH.
//
// Requests and replies as in sim/fast/main.cpp:
//   M  image                          set the memory, which is whole again             -> empty
//   X  u32 patience, bytes            queue bytes for the host link, run until a whole
//                                     frame came back, or nothing moved for so long    -> u64 cycle, bytes
//   F  Fault, bytes                   arm one fault; its counts begin now              -> empty
//   S  -                              u64 cycle, cycle in which the fault struck (0: not yet), and since F: cycles, beats, bursts, writes
//   C  -                              forget the logits                                -> empty
//   P  u8 slot                        logits of a slot since then                      -> i32 each
//   Q  -                              memories: a line each, name depth bits           -> text
//   N  -                              a new device: registers and block RAM as after configuration -> empty

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "Vmodel.h"
#include "host.h"
#include "pipe.h"
#include "verilated.h"
#include "verilated_sym_props.h"
#include "verilated_syms.h"

namespace {

enum Kind : uint32_t {
    NONE, TAPE, DATA, SHORTER, LONGER, EARLY, LOST, RESPONSE, STRAY, DELAY, SILENT, WRITE_RESPONSE, STRAY_ANSWER, LATE_ANSWER, ADDRESS,
    POKE, RESET, BYTES, LOST_BURST
};

// `when` counts from arming: beats, bursts, writes or cycles, as the kind says.
struct Fault {
    uint32_t kind, when, a, b, c;
} fault;
std::vector<uint8_t> intruder;  // bytes that another host sends
bool struck = false;
uint64_t struck_at = 0, cycle = 0, armed_at = 0, beats_given = 0, bursts_taken = 0, writes_taken = 0;

struct Beat {
    uint64_t due, data;
    size_t at;
    uint8_t response, last, id;
};
struct Answer {
    uint64_t due;
    uint8_t response, id;
};

std::vector<uint8_t> image;
std::deque<Beat> beats;
std::deque<Answer> answers;
bool have_address = false, have_data = false;
uint64_t write_address, write_data, silent_until = 0;
uint8_t write_strobes, write_id;
constexpr int LATENCY = 6;
constexpr uint64_t NEVER = 1u << 31;

std::unique_ptr<VerilatedContext> context;
std::unique_ptr<Vmodel> top;
Host host;
std::vector<int32_t> logits[BATCH];

struct Store {
    uint8_t* data;
    uint32_t depth, bits, bytes;
};
std::vector<std::pair<std::string, Store>> stores;

void strike() {
    if (!struck) struck_at = cycle;
    struck = true;
}

bool now(Kind kind, uint64_t count) { return fault.kind == kind && count == fault.when; }

// Every memory of the design, in the order of their names.
void find_stores() {
    stores.clear();
    const VerilatedScopeNameMap* scopes = context->scopeNameMap();
    if (!scopes) return;
    for (const auto& item : *scopes) {
        const VerilatedVarNameMap* vars = item.second->varsp();
        if (!vars) continue;
        for (const auto& var : *vars) {
            const VerilatedVar& found = var.second;
            if (found.udims() != 1) continue;
            const uint32_t depth = found.range(0)->elements();
            const Store store{static_cast<uint8_t*>(found.datap()), depth, found.entBits(), found.entSize()};
            stores.emplace_back(std::string(item.first) + "." + var.first, store);
        }
    }
}

void configure() {
    top.reset();
    context.reset(new VerilatedContext);
    top.reset(new Vmodel{context.get()});
    top->clk = 0;
    top->eval();
    find_stores();
    beats.clear();  // an interconnect that drains what a lost manager left
    answers.clear();
    have_address = have_data = false;
}

uint64_t line(size_t at) {
    uint64_t data = 0;
    if (at < image.size()) std::memcpy(&data, &image[at], std::min<size_t>(8, image.size() - at));
    return data;
}

void take_burst(uint64_t address, uint32_t length, uint8_t id) {
    const uint64_t number = bursts_taken++;
    if (now(ADDRESS, number)) address ^= uint64_t{1} << fault.a, strike();
    uint64_t due = cycle + LATENCY;
    int64_t count = length;
    if (now(DELAY, number)) due += fault.a, strike();
    if (now(SHORTER, number)) count = std::max<int64_t>(1, count - fault.a), strike();
    if (now(LOST_BURST, number)) count = 0, strike();
    if (now(LONGER, number)) count += fault.a, strike();
    for (int64_t beat = 0; beat < count; ++beat) {
        const size_t at = address + 8 * beat;
        Beat made{due, line(at), at, 0, beat == count - 1, id};
        if (now(EARLY, number) && beat == 0) made.last = 1, strike();
        if (now(LOST, number) && made.last) made.last = 0, strike();
        if (now(RESPONSE, number) && beat == int64_t(fault.b % length)) made.response = fault.a, strike();
        beats.push_back(made);
    }
}

void take_write() {
    const uint64_t number = writes_taken++;
    Answer answer{cycle + LATENCY, 0, write_id};
    if (now(WRITE_RESPONSE, number)) answer.response = fault.a, strike();
    if (now(LATE_ANSWER, number)) answer.due += fault.a, strike();
    if (!answer.response) {
        if (write_address + 8 > image.size()) image.resize(write_address + 8);
        for (int byte = 0; byte < 8; ++byte)
            if (write_strobes >> byte & 1) image[write_address + byte] = write_data >> 8 * byte;
    }
    if (answer.due < cycle + NEVER / 2) answers.push_back(answer);
    have_address = have_data = false;
}

void strike_by_cycle() {
    const uint64_t since = cycle - armed_at;
    if (since != fault.when) return;
    switch (fault.kind) {
    case STRAY: beats.push_front({cycle, 0xDEAD, ~size_t{0}, 0, 1, top->axi___05Farid}); break;
    case STRAY_ANSWER: answers.push_front({cycle, 0, top->axi___05Fawid}); break;
    case SILENT: silent_until = cycle + fault.a; break;
    case POKE: {
        const Store& store = stores[fault.a % stores.size()].second;
        store.data[size_t(fault.b % store.depth) * store.bytes + fault.c / 8] ^= 1 << fault.c % 8;
        break;
    }
    case RESET: configure(); break;
    case BYTES: host.sending.insert(host.sending.begin(), intruder.begin(), intruder.end()); break;
    default: return;
    }
    strike();
}

void step() {
    strike_by_cycle();
    const bool silent = cycle < silent_until;
    host.drive(*top);
    const bool room = !silent && beats.size() < 256;
    top->axi___05Farready = room;
    const bool take_address = !silent && !have_address, take_data = !silent && !have_data;
    top->axi___05Fawready = take_address;
    top->axi___05Fwready = take_data;
    const bool given = !silent && !beats.empty() && beats.front().due <= cycle;
    top->axi___05Frvalid = given;
    if (given) {
        Beat beat = beats.front();
        beats.pop_front();
        if (now(DATA, beats_given)) beat.data ^= uint64_t{1} << fault.a, strike();
        if (fault.kind == TAPE && fault.a / 8 == beat.at / 8 && beat.at % 8 == 0) strike();
        ++beats_given;
        top->axi___05Frdata = beat.data;
        top->axi___05Frresp = beat.response;
        top->axi___05Frlast = beat.last;
        top->axi___05Frid = beat.id;
    }
    const bool answered = !silent && !answers.empty() && answers.front().due <= cycle;
    top->axi___05Fbvalid = answered;
    if (answered) {
        top->axi___05Fbresp = answers.front().response;
        top->axi___05Fbid = answers.front().id;
        answers.pop_front();
    }
    top->eval();
    host.sample(*top);
    if (top->axi___05Farvalid && room) take_burst(top->axi___05Faraddr, top->axi___05Farlen + 1u, top->axi___05Farid);
    if (top->axi___05Fawvalid && take_address) write_address = top->axi___05Fawaddr, write_id = top->axi___05Fawid, have_address = true;
    if (top->axi___05Fwvalid && take_data) {
        write_data = top->axi___05Fwdata;
        write_strobes = top->axi___05Fwstrb;
        have_data = true;
    }
    if (have_address && have_data) take_write();
    if (top->logit_valid) {
        for (int slot = 0; slot < BATCH; ++slot) {
            if (!(top->logit_valid >> slot & 1)) continue;
            const uint64_t value = uint64_t(top->logit) >> 18 * slot & 0x3FFFF;
            logits[slot].push_back(static_cast<int32_t>(static_cast<uint32_t>(value) << 14) >> 14);
        }
    }
    top->clk = 1;
    top->eval();
    top->clk = 0;
    ++cycle;
}

void arm(const std::vector<uint8_t>& request) {
    std::memcpy(&fault, request.data(), sizeof fault);
    intruder.assign(request.begin() + sizeof fault, request.end());
    struck = false;
    struck_at = 0;
    armed_at = cycle;
    beats_given = bursts_taken = writes_taken = 0;
    if (fault.kind == TAPE && fault.a < image.size()) image[fault.a] ^= 1 << fault.b;
}

void serve(char code, const std::vector<uint8_t>& request) {
    std::string text;
    switch (code) {
    case 'M':
        image = request;
        fault = {};
        silent_until = 0;  // what was late comes now; what was lost stays lost
        for (auto& beat : beats) beat.due = std::min(beat.due, cycle);
        for (auto& answer : answers) answer.due = std::min(answer.due, cycle);
        host.sending.clear();
        reply(code, nullptr, 0, nullptr, 0);
        break;
    case 'X': host.exchange(request, cycle, step); break;
    case 'F':
        arm(request);
        reply(code, nullptr, 0, nullptr, 0);
        break;
    case 'S': {
        const uint64_t told[] = {cycle, struck_at, cycle - armed_at, beats_given, bursts_taken, writes_taken};
        reply(code, told, sizeof told, nullptr, 0);
        break;
    }
    case 'C':
        for (auto& slot : logits) slot.clear();
        reply(code, nullptr, 0, nullptr, 0);
        break;
    case 'P': {
        const auto& slot = logits[request[0]];
        reply(code, nullptr, 0, slot.data(), slot.size() * 4);
        break;
    }
    case 'Q':
        for (const auto& store : stores)
            text += store.first + " " + std::to_string(store.second.depth) + " " + std::to_string(store.second.bits) + "\n";
        reply(code, nullptr, 0, text.data(), text.size());
        break;
    case 'N':
        configure();
        reply(code, nullptr, 0, nullptr, 0);
        break;
    default: std::exit(1);
    }
}

}  // namespace

int main() {
    configure();
    char code;
    uint32_t length;
    std::vector<uint8_t> request;
    while (get(&code, 1) && get(&length, 4)) {
        request.resize(length);
        if (length && !get(request.data(), length)) break;
        serve(code, request);
    }
    top->final();
    return 0;
}
