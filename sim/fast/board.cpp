// A board behind a pseudo-terminal: its UART pins are driven and sampled bit by bit, BIT_CYCLES cycles a bit.
//
// Prints the path of the terminal, then runs until standard input ends. argv[1], if there is one, is the number of an open
// file that gets the session, or -1: lines of '>' (to the board) or '<' (from it) and hexadecimal bytes. With FLASH, argv[2] is the
// file with what is in the board's flash; the exit status is 2 where the board did to it what a part would not forgive.
// The clock stands still while no bit moves, no token runs and nothing has happened for QUIET cycles.

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include "Vmodel.h"
#include "verilated.h"

#if FLASH
#include "flash.h"
#endif

namespace {

constexpr int BIT = BIT_CYCLES; // cycles a bit: 8 where nobody needs more (TICKS of hw/link/uart.py), else the board's
constexpr int CHUNK = 2'000;    // cycles between looks at the terminal
constexpr long QUIET = 400'000; // cycles after the last bit during which the clock still runs

Vmodel* top;

// The line to the board: one byte after the other, a start bit, eight bits, a stop bit.
struct Sender {
    std::deque<uint8_t> bytes;
    unsigned shift = 0;
    int bits = 0, cycles = 0;

    bool busy() const { return bits || !bytes.empty(); }
    bool level() {
        if (bits == 0) {
            if (bytes.empty()) return true;
            shift = bytes.front() << 1 | 0x200;
            bytes.pop_front();
            bits = 10;
            cycles = BIT;
        }
        const bool now = shift & 1;
        if (--cycles == 0) {
            shift >>= 1;
            --bits;
            cycles = BIT;
        }
        return now;
    }
};

// The line from the board, sampled in the middle of each bit.
struct Receiver {
    std::deque<uint8_t> bytes;
    unsigned shift = 0;
    int bits = 0, cycles = 0;

    void sample(bool level) {
        if (bits == 0) {
            if (!level) {
                bits = 9;
                cycles = BIT + BIT / 2;
                shift = 0;
            }
            return;
        }
        if (--cycles) return;
        cycles = BIT;
        if (--bits == 0) {
            if (level) bytes.push_back(uint8_t(shift));
        } else {
            shift = shift >> 1 | (level ? 0x80 : 0);
        }
    }
};

// Writes the session, up to 32 bytes of one direction a line.
struct Recorder {
    std::FILE* file = nullptr;
    char direction = 0;
    int length = 0;

    void add(char to, uint8_t byte) {
        if (!file) return;
        if (to != direction || length == 32) {
            if (direction) std::fputc('\n', file);
            std::fprintf(file, "%c ", to);
            direction = to;
            length = 0;
        }
        std::fprintf(file, "%02x", byte);
        ++length;
    }
    bool end() {
        if (!file) return true;
        if (direction) std::fputc('\n', file);
        return std::fclose(file) == 0;
    }
};

Sender sender;
Receiver receiver;

#if FLASH
Flash flash;
#endif

void step() {
    top->rx = sender.level();
#if FLASH
    top->flash_io_i = flash.out;
    flash.step(top->flash_clock, top->flash_select, top->flash_io_o, top->flash_io_oe);
#endif
    top->clk = 1;
    top->eval();
    top->clk = 0;
    top->eval();
    receiver.sample(top->tx);
}

int open_terminal() {
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master)) return -1;
    const char* path = ptsname(master);
    const int slave = open(path, O_RDWR | O_NOCTTY);  // kept open, so that the master outlives its clients
    termios settings;
    if (slave < 0 || tcgetattr(slave, &settings)) return -1;
    cfmakeraw(&settings);
    tcsetattr(slave, TCSANOW, &settings);
    fcntl(master, F_SETFL, O_NONBLOCK);
    std::printf("%s\n", path);
    std::fflush(stdout);
    return master;
}

}  // namespace

int main(int argc, char** argv) {
    std::signal(SIGINT, SIG_IGN);  // whoever started this closes standard input
    const int master = open_terminal();
    if (master < 0) return 1;
    Recorder recorder;
    if (argc > 1 && std::atoi(argv[1]) >= 0 && !(recorder.file = fdopen(std::atoi(argv[1]), "w"))) return 1;
#if FLASH
    if (argc < 3 || !flash.load(argv[2])) return 1;
#endif
    VerilatedContext context;
    top = new Vmodel{&context};
    top->rx = 1;
    top->clk = 0;
    top->eval();

    long quiet = 0;
    while (true) {
        const bool still = quiet > QUIET;
        pollfd waits[2] = {{0, POLLIN, 0}, {master, POLLIN, 0}};
        poll(waits, 2, still ? -1 : 0);
        if (waits[0].revents) break;  // standard input ended
        uint8_t buffer[256];
        if (sender.bytes.size() < sizeof buffer) {
            const ssize_t count = read(master, buffer, sizeof buffer);
            for (ssize_t i = 0; i < count; ++i) {
                recorder.add('>', buffer[i]);
                sender.bytes.push_back(buffer[i]);
                quiet = 0;
            }
        }
        for (int i = 0; i < CHUNK; ++i) step();
        quiet += CHUNK;
        if (sender.busy() || receiver.bits || (top->status & 1)) quiet = 0;
        while (!receiver.bytes.empty()) {
            const uint8_t byte = receiver.bytes.front();
            receiver.bytes.pop_front();
            quiet = 0;
            if (write(master, &byte, 1) == 1) recorder.add('<', byte);  // full: lost, as on a wire
        }
    }
    top->final();
    delete top;
#if FLASH
    if (flash.violations) return 2;
#endif
    return recorder.end() ? 0 : 1;
}
