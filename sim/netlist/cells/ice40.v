// Behaviour of the iCE40 UltraPlus cells that Yosys' models have not, or not for two-state simulation. Written from Lattice's
// documents: FPGA-TN-02001 (iCE40 library), FPGA-TN-02022 (SPRAM), FPGA-TN-02052 (PLL). tests/test_sim_netlist.py compares each with the
// RTL that it stands for.

// Pin without registers. PIN_TYPE[5:2] is 0 for an input, 6 for an output, 10 for an output with an enable, which ours have at 1.
module SB_IO(
    inout PACKAGE_PIN, input LATCH_INPUT_VALUE, CLOCK_ENABLE, INPUT_CLK, OUTPUT_CLK, OUTPUT_ENABLE, D_OUT_0, D_OUT_1,
    output D_IN_0, D_IN_1
);
    parameter [5:0] PIN_TYPE = 0;
    parameter [0:0] PULLUP = 0, NEG_TRIGGER = 0;
    parameter IO_STANDARD = "SB_LVCMOS";
    generate
        if (PIN_TYPE[5:2] == 4'b0110 || PIN_TYPE[5:2] == 4'b1010) assign PACKAGE_PIN = D_OUT_0;
        else if (PIN_TYPE[5:2] != 0) SB_IO_pin_type_without_a_model unknown();
    endgenerate
    assign D_IN_0 = PACKAGE_PIN;
    assign D_IN_1 = 0;
endmodule

// PLL: the simulated clock is the one that it makes, so it passes its input on, locked from the start.
module SB_PLL40_PAD(
    input PACKAGEPIN, EXTFEEDBACK, BYPASS, RESETB, LATCHINPUTVALUE, SDI, SCLK, input [7:0] DYNAMICDELAY,
    output PLLOUTCORE, PLLOUTGLOBAL, LOCK, SDO
);
    parameter FEEDBACK_PATH = "SIMPLE", DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED", DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED";
    parameter SHIFTREG_DIV_MODE = 0, FDA_FEEDBACK = 0, FDA_RELATIVE = 0, PLLOUT_SELECT = "GENCLK", DIVR = 0, DIVF = 0, DIVQ = 0;
    parameter FILTER_RANGE = 0, ENABLE_ICEGATE = 0, TEST_MODE = 0, EXTERNAL_DIVIDE_FACTOR = 1;
    assign {PLLOUTCORE, PLLOUTGLOBAL} = {2{PACKAGEPIN}};
    assign LOCK = 1;
    assign SDO = 0;
endmodule

module SB_PLL40_CORE(
    input REFERENCECLK, EXTFEEDBACK, BYPASS, RESETB, LATCHINPUTVALUE, SDI, SCLK, input [7:0] DYNAMICDELAY,
    output PLLOUTCORE, PLLOUTGLOBAL, LOCK, SDO
);
    parameter FEEDBACK_PATH = "SIMPLE", DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED", DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED";
    parameter SHIFTREG_DIV_MODE = 0, FDA_FEEDBACK = 0, FDA_RELATIVE = 0, PLLOUT_SELECT = "GENCLK", DIVR = 0, DIVF = 0, DIVQ = 0;
    parameter FILTER_RANGE = 0, ENABLE_ICEGATE = 0, TEST_MODE = 0, EXTERNAL_DIVIDE_FACTOR = 1;
    assign {PLLOUTCORE, PLLOUTGLOBAL} = {2{REFERENCECLK}};
    assign LOCK = 1;
    assign SDO = 0;
endmodule

// Single-port RAM of 16,384 x 16 bits; a bit of MASKWREN guards four bits of a word. Its output is garbage behind a write, and while it
// sleeps, is in standby or is switched off it neither reads nor writes.
module SB_SPRAM256KA(
    input [13:0] ADDRESS, input [15:0] DATAIN, input [3:0] MASKWREN, input WREN, CHIPSELECT, CLOCK, STANDBY, SLEEP, POWEROFF,
    output reg [15:0] DATAOUT
);
    reg [15:0] words [0:16383];
    // POWEROFF is active low: 1 is on.
    wire on = CHIPSELECT & ~STANDBY & ~SLEEP & POWEROFF;
    wire [15:0] guard = {{4{MASKWREN[3]}}, {4{MASKWREN[2]}}, {4{MASKWREN[1]}}, {4{MASKWREN[0]}}};
    always @(posedge CLOCK) begin
        if (on & WREN) words[ADDRESS] <= words[ADDRESS] & ~guard | DATAIN & guard;
        if (on) DATAOUT <= WREN ? ~DATAIN : words[ADDRESS];
        else if (SLEEP | ~POWEROFF) DATAOUT <= 16'hdead;
    end
endmodule
