// Frames against the host link, in and out of order, with surroundings that answer, fail or never answer. Macros: IDENTITY_BYTES,
// PATIENCE (cycles that the link waits for memory).
//
//     model SEED COUNT IDENTITY
//
// IDENTITY: hexadecimal bytes that IDENTIFY must tell. A second decoder in this file says of every byte stream which frames are
// whole. Holds: a new whole frame gets one reply of its kind and number; a repetition the same reply again; nothing else gets any;
// the link takes the next byte within the time that the command may need; every eighth frame is IDENTIFY and gets the right answer.
// Prints JSON; after the first failure its frame's number and bytes, and ends with status 1.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "Vmodel.h"
#include "verilated.h"

namespace {

using Bytes = std::vector<uint8_t>;

Vmodel* top;
uint64_t cycle = 0, noise = 1;
uint32_t table[256];

uint32_t random32() {
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    return static_cast<uint32_t>(noise >> 16);
}
uint32_t below(uint32_t bound) { return static_cast<uint32_t>(uint64_t{random32()} * bound >> 32); }
bool chance(uint32_t percent) { return below(100) < percent; }

uint32_t crc32(const uint8_t* data, size_t size) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; ++i) crc = crc >> 8 ^ table[(crc ^ data[i]) & 255];
    return ~crc;
}

Bytes encode(Bytes content) {
    const uint32_t crc = crc32(content.data(), content.size());
    for (int i = 0; i < 4; ++i) content.push_back(crc >> 8 * i);
    Bytes out;
    size_t code = 0;
    out.push_back(1);
    for (const uint8_t byte : content) {
        if (byte) out.push_back(byte), ++out[code];
        if (!byte || out[code] == 255) code = out.size(), out.push_back(1);
    }
    out.push_back(0);
    return out;
}

// The frame of what stood between two zeros, with its CRC; false: it is none.
bool decode(const Bytes& encoded, Bytes& frame) {
    frame.clear();
    for (size_t at = 0; at < encoded.size();) {
        const uint8_t code = encoded[at++];
        if (at + code - 1 > encoded.size()) return false;
        frame.insert(frame.end(), encoded.begin() + at, encoded.begin() + at + code - 1);
        at += code - 1;
        if (code < 255 && at < encoded.size()) frame.push_back(0);
    }
    if (frame.size() < 12 || frame.size() > 224) return false;
    uint32_t crc;
    std::memcpy(&crc, &frame[frame.size() - 4], 4);
    return crc == crc32(frame.data(), frame.size() - 4);
}

// What lies around the link: a memory and a token loop, in a mood that changes.
struct Around {
    int memory_mood = 0, loop_mood = 0;  // 0: quick; 1: slow; 2: fails; 3: never answers
    int memory_wait = 0, boot_wait = -1, token_wait = -1, pass_wait = -1, logits_left = 0;
    bool asked = false, word = false, failed = false, configured = false, fault = false, damaged = false, result = false;

    void change() {
        memory_mood = chance(60) ? 0 : below(4);
        loop_mood = chance(50) ? 0 : below(4);
    }
    int wait(int mood) { return mood == 3 ? 1 << 30 : mood == 1 ? 1 + below(60) : below(4); }

    void drive() {
        failed = false;
        top->requests___05Fready = memory_mood != 3 || chance(1);
        if (asked && memory_wait-- <= 0) {
            asked = false;
            failed = memory_mood == 2 && chance(50);
            word = !failed || chance(50);
        }
        top->words___05Fvalid = word;
        top->words___05Fpayload = random32();
        top->write___05Fready = memory_mood == 0 || (memory_mood != 3 && chance(20));
        top->write_failed = memory_mood == 2 && top->write___05Fready && chance(30);
        top->read_failed = failed;
        top->boot___05Fready = 1;
        if (boot_wait >= 0 && boot_wait-- == 0) {
            if (loop_mood == 2 && chance(50)) fault = damaged = true;
            else configured = true;
        }
        top->tokens___05Fready = configured && token_wait < 0 && pass_wait < 0 && !result && loop_mood != 3;
        top->logits___05Fvalid = logits_left > 0 && top->logits_enable;
        top->logits___05Fpayload = random32() & 0x3FFFF;
        if (token_wait >= 0 && !top->logits___05Fvalid && token_wait-- == 0) {
            if (loop_mood == 2 && chance(20)) fault = damaged = true;
            else result = true;
        }
        if (loop_mood == 2 && chance(1) && configured) damaged = true;
        if (pass_wait > 0) --pass_wait;
        else if (pass_wait == 0 && !result && token_wait < 0) pass_wait = -1;
        top->results___05Fvalid = result;
        top->results___05Fpayload = random32() & 0xFFFF;
        top->configured = configured;
        top->fault = fault;
        top->fault_code = fault ? 12 : 0;
        top->damaged = damaged;
        top->passing = pass_wait >= 0;
        top->state_value = random32() & 0x3FFFF;
        top->counter = random32();
    }

    void sample() {
        if (word && top->words___05Fready) word = false;
        if (top->requests___05Fvalid && top->requests___05Fready) asked = true, memory_wait = wait(memory_mood);
        if (top->logits___05Fvalid && top->logits___05Fready) --logits_left;
        if (result && top->results___05Fready) result = false;
        if (top->tokens___05Fvalid && top->tokens___05Fready) {
            token_wait = wait(loop_mood);
            pass_wait = token_wait > 1000 ? 1 << 30 : token_wait + below(20);
            logits_left = below(6);
        }
        if (top->boot___05Fvalid) boot_wait = wait(loop_mood);
        if (top->restart) {
            asked = word = configured = fault = damaged = result = false;
            boot_wait = token_wait = pass_wait = -1;
            logits_left = 0;
        }
    }
} around;

Bytes current, identity, last_raw{0};
struct Expected {
    uint8_t kind, sequence;
    bool repetition, loose;  // loose: asked for more than a reply holds, so only its end is judged
    uint32_t session;
};
std::deque<Expected> expected;
uint8_t last_sequence = 0;
Bytes reply_raw;
uint64_t counts[6];  // new, repeated, dropped, replies, bytes in, loose
std::string wrong;
uint64_t allowance = 4000;

void judge_command(const Bytes& encoded) {
    Bytes frame;
    if (!decode(encoded, frame)) {
        counts[2] += !encoded.empty();
        return;
    }
    const uint8_t kind = frame[0], sequence = frame[1];
    uint32_t argument;
    std::memcpy(&argument, &frame[2], 4);
    const uint32_t count = frame[6] | frame[7] << 8;
    const bool repetition = sequence == last_sequence && kind != 1;
    last_sequence = sequence;
    const int size = kind == 0x02 ? 2 : kind == 0x04 || kind == 0x17 ? 3 : kind == 0x05 || kind == 0x11 ? 4 : 0;
    const bool loose = size * count > 212;
    ++counts[repetition ? 1 : 0];
    counts[5] += loose && !repetition;
    expected.push_back({static_cast<uint8_t>(kind | 0x80), sequence, repetition, loose, argument});
    // Words wait for the memory, bytes go out slowly; a count beyond the frame's data ends with the data.
    allowance = 6000 + (kind == 0x10 ? 64 : count) * uint64_t{PATIENCE > 64 ? PATIENCE + 64 : 128};
}

void judge_reply() {
    ++counts[3];
    if (expected.empty()) {
        wrong = "a reply that nothing asked for";
        return;
    }
    const Expected wanted = expected.front();
    expected.pop_front();
    if (wanted.repetition) {
        if (reply_raw != last_raw) wrong = "a repetition must get the same reply";
        return;
    }
    last_raw = reply_raw;
    if (wanted.loose) return;
    Bytes frame;
    if (!decode(Bytes(reply_raw.begin(), reply_raw.end() - 1), frame)) wrong = "a reply must be a whole frame";
    else if (frame[0] != wanted.kind || frame[1] != wanted.sequence) wrong = "a reply must be of the command's kind and number";
    else if (frame[6] > 7) wrong = "a status must be known";
    else if ((wanted.kind & 0x60) && frame[6] != 1) wrong = "an unknown command must be refused";
    else if (wanted.kind == 0x81 && frame[6] == 0) {
        if (std::memcmp(&frame[2], &wanted.session, 4)) wrong = "IDENTIFY must repeat its session";
        if (frame.size() != 12 + identity.size() || std::memcmp(&frame[8], identity.data(), identity.size()))
            wrong = "IDENTIFY must tell the identity";
    }
}

// One cycle; whether the offered byte was taken.
bool step(bool offer, uint8_t byte) {
    top->rx___05Fvalid = offer;
    top->rx___05Fpayload = byte;
    top->tx___05Fready = 1;
    around.drive();
    top->eval();
    const bool taken = offer && top->rx___05Fready;
    if (top->tx___05Fvalid) {
        reply_raw.push_back(top->tx___05Fpayload);
        if (reply_raw.back() == 0) {
            judge_reply();
            reply_raw.clear();
        }
    }
    around.sample();
    top->clk = 1;
    top->eval();
    top->clk = 0;
    ++cycle;
    if (taken) {
        ++counts[4];
        if (byte) current.push_back(byte);
        else judge_command(current), current.clear();
    }
    return taken;
}

uint64_t longest = 0;
void send(uint8_t byte) {
    uint64_t waited = 0;
    while (!step(true, byte)) {
        if (++waited > allowance) {
            wrong = "the link must take the next byte";
            return;
        }
        if (!wrong.empty()) return;
    }
    if (waited > longest) longest = waited;
}

Bytes plausible() {
    static const uint8_t kinds[] = {1, 2, 3, 4, 5, 6, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19};
    const uint8_t kind = kinds[below(sizeof kinds)];
    uint32_t argument = chance(80) ? below(70) : random32();
    if (kind == 2 || kind == 0x16) argument = random32() & 0x3FFFF;
    uint32_t count = chance(97) ? below(12) : chance(90) ? below(80) : random32() & 0xFFFF;
    Bytes content{kind, static_cast<uint8_t>(random32())};
    for (int i = 0; i < 4; ++i) content.push_back(argument >> 8 * i);
    content.push_back(count);
    content.push_back(count >> 8);
    const int size = kind == 0x10 ? 4 : kind == 0x16 ? 2 : kind == 0x18 ? 3 : 0;
    uint32_t data = std::min<uint32_t>(size * count, 212);
    if (chance(5)) data = below(213);
    for (uint32_t i = 0; i < data; ++i) content.push_back(chance(30) ? 0 : random32());
    return content;
}

void mutate(Bytes& bytes) {
    for (int changes = 1 + below(3); changes-- && !bytes.empty();) {
        const size_t at = below(bytes.size());
        switch (below(6)) {
        case 0: bytes[at] ^= 1 << below(8); break;
        case 1: bytes.erase(bytes.begin() + at); break;
        case 2: bytes.insert(bytes.begin() + at, random32()); break;
        case 3: bytes.insert(bytes.begin() + at, 0); break;
        case 4: bytes.resize(at); break;
        default: bytes[at] = chance(50) ? 255 : random32();
        }
    }
}

Bytes next_frame(uint64_t number, const Bytes& before) {
    if (number % 8 == 7) {
        Bytes content{1, static_cast<uint8_t>(random32())};
        for (int i = 0; i < 6; ++i) content.push_back(i < 4 ? random32() : 0);
        Bytes out{0};
        const Bytes encoded = encode(content);
        out.insert(out.end(), encoded.begin(), encoded.end());
        return out;
    }
    const uint32_t kind = below(100);
    Bytes out;
    if (kind < 40) out = encode(plausible());
    else if (kind < 55) {
        Bytes content(chance(95) ? below(32) : below(230));
        for (auto& byte : content) byte = chance(20) ? 0 : random32();
        out = encode(content);
    } else if (kind < 60) out = before;
    else if (kind < 88) {
        out = encode(plausible());
        mutate(out);
        if (chance(80)) out.push_back(0);
    } else {
        out.resize(chance(95) ? below(40) : below(400));
        for (auto& byte : out) byte = random32();
    }
    if (chance(50)) out.insert(out.begin(), 0);
    return out;
}

}  // namespace

int main(int, char** argv) {
    const uint64_t seed = std::strtoull(argv[1], nullptr, 10), count = std::strtoull(argv[2], nullptr, 10);
    for (const char* text = argv[3]; text[0]; text += 2) identity.push_back(std::strtoul(std::string(text, 2).c_str(), nullptr, 16));
    noise = seed * 0x9E3779B97F4A7C15ull + 0x2545F4914F6CDD1Dull;
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
        table[i] = crc;
    }
    VerilatedContext context;
    top = new Vmodel{&context};
    top->clk = 0;
    Bytes frame;
    uint64_t number = 0;
    for (; number < count && wrong.empty(); ++number) {
        if (number % 64 == 0) around.change();
        frame = next_frame(number, frame);
        for (const uint8_t byte : frame) {
            send(byte);
            if (!wrong.empty()) break;
        }
        for (int pause = chance(20) ? below(400) : 0; pause-- && wrong.empty();) step(false, 0);
        if (number % 8 == 7 && wrong.empty()) {  // IDENTIFY: its reply comes without another byte
            uint64_t waited = 0;
            while (!expected.empty() && wrong.empty())
                if (step(false, 0), ++waited > 20000) wrong = "IDENTIFY must be answered";
        }
        if (expected.size() > 1 && wrong.empty()) wrong = "a frame must be answered before the next one";
    }
    if (!wrong.empty()) {
        std::fprintf(stderr, "seed %llu, frame %llu: %s\n", (unsigned long long)seed, (unsigned long long)number - 1, wrong.c_str());
        for (const uint8_t byte : frame) std::fprintf(stderr, "%02x", byte);
        std::fputc('\n', stderr);
    }
    std::printf("{\"seed\": %llu, \"frames\": %llu, \"obeyed\": %llu, \"repeated\": %llu, \"dropped\": %llu, \"replies\": %llu, "
                "\"bytes\": %llu, \"asked_too_much\": %llu, \"cycles\": %llu, \"longest_wait\": %llu, \"failed\": %s}\n",
                (unsigned long long)seed, (unsigned long long)number, (unsigned long long)counts[0], (unsigned long long)counts[1],
                (unsigned long long)counts[2], (unsigned long long)counts[3], (unsigned long long)counts[4],
                (unsigned long long)counts[5], (unsigned long long)cycle, (unsigned long long)longest, wrong.empty() ? "false" : "true");
    top->final();
    delete top;
    return !wrong.empty();
}
