// The host of litex_soc.py: asks the core for tokens over its registers and prints their text. docs/protocol.md has the frames.

#include <stdint.h>

#include "csr.h"    // addresses of the registers, written by LiteX
#include "texts.h"  // the prompt, TOKENS, and the text of every token

enum { IDENTIFY = 0x01, POLL = 0x02, BOOT = 0x13, LOAD = 0x16 };
enum { HEADER = 8, REPLY_HEADER = 8, FRAME = 224 };

static uint8_t frame[FRAME], content[FRAME];
static uint8_t sequence;

static uint32_t get(uintptr_t address) { return *(volatile uint32_t*)address; }
static void set(uintptr_t address, uint32_t value) { *(volatile uint32_t*)address = value; }

static void print(const uint8_t* text, uint32_t size) {
    for (uint32_t i = 0; i < size; ++i) {
        while (get(CSR_UART_TXFULL_ADDR)) {}
        set(CSR_UART_RXTX_ADDR, text[i]);
    }
}

static void say(const char* text) {
    for (; *text; ++text) print((const uint8_t*)text, 1);
}

static void send(uint8_t byte) {
    while (get(CSR_TRITAPE_LINK_TXFULL_ADDR)) {}
    set(CSR_TRITAPE_LINK_RXTX_ADDR, byte);
}

static uint8_t receive(void) {
    while (get(CSR_TRITAPE_LINK_RXEMPTY_ADDR)) {}
    const uint8_t byte = get(CSR_TRITAPE_LINK_RXTX_ADDR);
    set(CSR_TRITAPE_LINK_EV_PENDING_ADDR, 2);  // the next one
    return byte;
}

static uint32_t crc32(const uint8_t* data, uint32_t size) {
    uint32_t crc = 0xffffffff;
    for (uint32_t i = 0; i < size; ++i) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void put32(uint8_t* to, uint32_t value) {
    for (int i = 0; i < 4; ++i) to[i] = value >> 8 * i;
}

// COBS between zeros: each run without a zero goes behind its length plus 1. Frames here are shorter than 254 bytes.
static void send_frame(uint32_t size) {
    put32(content + size, crc32(content, size));
    size += 4;
    send(0);
    for (uint32_t start = 0; start <= size;) {
        uint32_t end = start;
        while (end < size && content[end]) ++end;
        send(end - start + 1);
        for (uint32_t i = start; i < end; ++i) send(content[i]);
        start = end + 1;
    }
    send(0);
}

// The next frame that is whole, without its CRC, into `content`. Returns: its bytes.
static uint32_t receive_frame(void) {
    while (1) {
        uint32_t size = 0, made = 0;
        uint8_t byte;
        while ((byte = receive())) {
            if (size < FRAME) frame[size++] = byte;
        }
        for (uint32_t at = 0; at < size;) {
            const uint32_t run = frame[at++];
            for (uint32_t i = 1; i < run && at < size; ++i) content[made++] = frame[at++];
            if (at < size) content[made++] = 0;
        }
        if (made < REPLY_HEADER + 4) continue;
        const uint32_t crc = content[made - 4] | content[made - 3] << 8 | content[made - 2] << 16 | (uint32_t)content[made - 1] << 24;
        if (crc == crc32(content, made - 4)) return made - 4;
    }
}

// One command; its data, `size` bytes, stand in `content` behind the header. Returns: bytes of the reply's data.
static uint32_t call(uint8_t kind, uint32_t argument, uint32_t count, uint32_t size) {
    content[0] = kind;
    content[1] = ++sequence;
    put32(content + 2, argument);
    content[6] = count;
    content[7] = count >> 8;
    send_frame(HEADER + size);
    while (1) {
        const uint32_t got = receive_frame();
        if (content[0] != (kind | 0x80) || content[1] != sequence) continue;
        if (content[6]) {
            say("\nstatus ");
            const uint8_t digit = '0' + content[6];
            print(&digit, 1);
            set(CSR_MAIN_DONE_ADDR, 1);
        }
        return got - REPLY_HEADER;
    }
}

static void write_text(uint32_t token) {
    print(piece_bytes + piece_start[token], piece_start[token + 1] - piece_start[token]);
}

int main(void) {
    sequence = 0;
    call(IDENTIFY, 0x1234, 0, 0);
    call(BOOT, 0, 0, 0);
    say("<<");
    for (uint32_t i = 0; i < PROMPT; ++i) {
        write_text(prompt[i]);
        content[HEADER + 2 * i] = prompt[i];
        content[HEADER + 2 * i + 1] = prompt[i] >> 8;
    }
    call(LOAD, 1 << 16, PROMPT, 2 * PROMPT);
    for (uint32_t place = PROMPT; place < PROMPT + TOKENS;) {
        const uint32_t ahead = place + 100 < PROMPT + TOKENS ? place + 100 : PROMPT + TOKENS;
        const uint32_t bytes = call(POLL, (place & 255) | (ahead & 255) << 8, 1, 0);
        for (uint32_t i = 0; i + 1 < bytes; i += 2, ++place) write_text(content[REPLY_HEADER + i] | content[REPLY_HEADER + i + 1] << 8);
    }
    say(">>\n");
    while (!get(CSR_UART_TXEMPTY_ADDR)) {}
    set(CSR_MAIN_DONE_ADDR, 1);
    while (1) {}
}

__asm__(".section .start\n.globl _start\n_start:\n  la sp, _stack\n  j main\n");
