// Behaviour of the iCE40 UltraPlus cells that Yosys' models have not, or not for two-state simulation. Written from Lattice's
// documents: FPGA-TN-02001 (iCE40 library), FPGA-TN-02022 (SPRAM), FPGA-TN-02052 (PLL). tests/test_sim_netlist.py compares each with the
// RTL that it stands for. The cells of a routed netlist, ICESTORM_*, are those of a synthesised one with ports of one bit.

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

module ICESTORM_SPRAM(
    input ADDRESS_13, ADDRESS_12, ADDRESS_11, ADDRESS_10, ADDRESS_9, ADDRESS_8, ADDRESS_7, ADDRESS_6, ADDRESS_5, ADDRESS_4,
    ADDRESS_3, ADDRESS_2, ADDRESS_1, ADDRESS_0,
    input DATAIN_15, DATAIN_14, DATAIN_13, DATAIN_12, DATAIN_11, DATAIN_10, DATAIN_9, DATAIN_8, DATAIN_7, DATAIN_6, DATAIN_5,
    DATAIN_4, DATAIN_3, DATAIN_2, DATAIN_1, DATAIN_0,
    input MASKWREN_3, MASKWREN_2, MASKWREN_1, MASKWREN_0, WREN, CHIPSELECT, CLOCK, STANDBY, SLEEP, POWEROFF,
    output DATAOUT_15, DATAOUT_14, DATAOUT_13, DATAOUT_12, DATAOUT_11, DATAOUT_10, DATAOUT_9, DATAOUT_8, DATAOUT_7,
    DATAOUT_6, DATAOUT_5, DATAOUT_4, DATAOUT_3, DATAOUT_2, DATAOUT_1, DATAOUT_0
);
    SB_SPRAM256KA ram(
        .ADDRESS({ADDRESS_13, ADDRESS_12, ADDRESS_11, ADDRESS_10, ADDRESS_9, ADDRESS_8, ADDRESS_7, ADDRESS_6, ADDRESS_5,
        ADDRESS_4, ADDRESS_3, ADDRESS_2, ADDRESS_1, ADDRESS_0}),
        .DATAIN({DATAIN_15, DATAIN_14, DATAIN_13, DATAIN_12, DATAIN_11, DATAIN_10, DATAIN_9, DATAIN_8, DATAIN_7, DATAIN_6,
        DATAIN_5, DATAIN_4, DATAIN_3, DATAIN_2, DATAIN_1, DATAIN_0}),
        .MASKWREN({MASKWREN_3, MASKWREN_2, MASKWREN_1, MASKWREN_0}),
        .WREN(WREN), .CHIPSELECT(CHIPSELECT), .CLOCK(CLOCK), .STANDBY(STANDBY), .SLEEP(SLEEP), .POWEROFF(POWEROFF),
        .DATAOUT({DATAOUT_15, DATAOUT_14, DATAOUT_13, DATAOUT_12, DATAOUT_11, DATAOUT_10, DATAOUT_9, DATAOUT_8, DATAOUT_7,
        DATAOUT_6, DATAOUT_5, DATAOUT_4, DATAOUT_3, DATAOUT_2, DATAOUT_1, DATAOUT_0})
    );
endmodule

module ICESTORM_DSP(
    input A_15, A_14, A_13, A_12, A_11, A_10, A_9, A_8, A_7, A_6, A_5, A_4, A_3, A_2, A_1, A_0, B_15, B_14, B_13, B_12, B_11,
    B_10, B_9, B_8, B_7, B_6, B_5, B_4, B_3, B_2, B_1, B_0, C_15, C_14, C_13, C_12, C_11, C_10, C_9, C_8, C_7, C_6, C_5, C_4,
    C_3, C_2, C_1, C_0, D_15, D_14, D_13, D_12, D_11, D_10, D_9, D_8, D_7, D_6, D_5, D_4, D_3, D_2, D_1, D_0,
    input CLK, CE, AHOLD, BHOLD, CHOLD, DHOLD, IRSTTOP, IRSTBOT, ORSTTOP, ORSTBOT, OLOADTOP, OLOADBOT, ADDSUBTOP, ADDSUBBOT,
    input OHOLDTOP, OHOLDBOT, CI, ACCUMCI, SIGNEXTIN,
    output O_31, O_30, O_29, O_28, O_27, O_26, O_25, O_24, O_23, O_22, O_21, O_20, O_19, O_18, O_17, O_16, O_15, O_14, O_13,
    O_12, O_11, O_10, O_9, O_8, O_7, O_6, O_5, O_4, O_3, O_2, O_1, O_0,
    output CO, ACCUMCO, SIGNEXTOUT
);
    parameter [0:0] NEG_TRIGGER = 0, C_REG = 0, A_REG = 0, B_REG = 0, D_REG = 0, TOP_8x8_MULT_REG = 0, BOT_8x8_MULT_REG = 0;
    parameter [0:0] PIPELINE_16x16_MULT_REG1 = 0, PIPELINE_16x16_MULT_REG2 = 0, MODE_8x8 = 0;
    parameter [1:0] TOPOUTPUT_SELECT = 0, TOPADDSUB_LOWERINPUT = 0, TOPADDSUB_CARRYSELECT = 0;
    parameter [1:0] BOTOUTPUT_SELECT = 0, BOTADDSUB_LOWERINPUT = 0, BOTADDSUB_CARRYSELECT = 0;
    parameter [0:0] TOPADDSUB_UPPERINPUT = 0, BOTADDSUB_UPPERINPUT = 0;
    parameter [31:0] A_SIGNED = 0, B_SIGNED = 0;
    SB_MAC16 #(
        .NEG_TRIGGER(NEG_TRIGGER), .C_REG(C_REG), .A_REG(A_REG), .B_REG(B_REG), .D_REG(D_REG),
        .TOP_8x8_MULT_REG(TOP_8x8_MULT_REG), .BOT_8x8_MULT_REG(BOT_8x8_MULT_REG),
        .PIPELINE_16x16_MULT_REG1(PIPELINE_16x16_MULT_REG1), .PIPELINE_16x16_MULT_REG2(PIPELINE_16x16_MULT_REG2),
        .MODE_8x8(MODE_8x8), .TOPOUTPUT_SELECT(TOPOUTPUT_SELECT), .TOPADDSUB_LOWERINPUT(TOPADDSUB_LOWERINPUT),
        .TOPADDSUB_UPPERINPUT(TOPADDSUB_UPPERINPUT), .TOPADDSUB_CARRYSELECT(TOPADDSUB_CARRYSELECT),
        .BOTOUTPUT_SELECT(BOTOUTPUT_SELECT), .BOTADDSUB_LOWERINPUT(BOTADDSUB_LOWERINPUT),
        .BOTADDSUB_UPPERINPUT(BOTADDSUB_UPPERINPUT), .BOTADDSUB_CARRYSELECT(BOTADDSUB_CARRYSELECT), .A_SIGNED(A_SIGNED[0]),
        .B_SIGNED(B_SIGNED[0])
    ) mac(
        .A({A_15, A_14, A_13, A_12, A_11, A_10, A_9, A_8, A_7, A_6, A_5, A_4, A_3, A_2, A_1, A_0}),
        .B({B_15, B_14, B_13, B_12, B_11, B_10, B_9, B_8, B_7, B_6, B_5, B_4, B_3, B_2, B_1, B_0}),
        .C({C_15, C_14, C_13, C_12, C_11, C_10, C_9, C_8, C_7, C_6, C_5, C_4, C_3, C_2, C_1, C_0}),
        .D({D_15, D_14, D_13, D_12, D_11, D_10, D_9, D_8, D_7, D_6, D_5, D_4, D_3, D_2, D_1, D_0}),
        .CLK(CLK), .CE(CE), .AHOLD(AHOLD), .BHOLD(BHOLD), .CHOLD(CHOLD), .DHOLD(DHOLD), .IRSTTOP(IRSTTOP), .IRSTBOT(IRSTBOT),
        .ORSTTOP(ORSTTOP), .ORSTBOT(ORSTBOT), .OLOADTOP(OLOADTOP), .OLOADBOT(OLOADBOT), .ADDSUBTOP(ADDSUBTOP),
        .ADDSUBBOT(ADDSUBBOT), .OHOLDTOP(OHOLDTOP), .OHOLDBOT(OHOLDBOT), .CI(CI), .ACCUMCI(ACCUMCI), .SIGNEXTIN(SIGNEXTIN),
        .CO(CO), .ACCUMCO(ACCUMCO), .SIGNEXTOUT(SIGNEXTOUT),
        .O({O_31, O_30, O_29, O_28, O_27, O_26, O_25, O_24, O_23, O_22, O_21, O_20, O_19, O_18, O_17, O_16, O_15, O_14, O_13,
        O_12, O_11, O_10, O_9, O_8, O_7, O_6, O_5, O_4, O_3, O_2, O_1, O_0})
    );
endmodule

// What it makes reaches a global buffer by a wire of its own, which nextpnr does not write: sim/netlist/flatten.py puts the clock there.
module ICESTORM_PLL(
    input REFERENCECLK, EXTFEEDBACK, BYPASS, RESETB, LATCHINPUTVALUE, SDI, SCLK, DYNAMICDELAY_7, DYNAMICDELAY_6, DYNAMICDELAY_5,
    input DYNAMICDELAY_4, DYNAMICDELAY_3, DYNAMICDELAY_2, DYNAMICDELAY_1, DYNAMICDELAY_0,
    output PLLOUT_A, PLLOUT_B, PLLOUT_A_GLOBAL, PLLOUT_B_GLOBAL, LOCK, SDO
);
    parameter PLLTYPE = 0, FEEDBACK_PATH = 0, DELAY_ADJMODE_FB = 0, DELAY_ADJMODE_REL = 0, SHIFTREG_DIVMODE = 0, FDA_FEEDBACK = 0;
    parameter FDA_RELATIVE = 0, PLLOUT_SELECT_A = 0, PLLOUT_SELECT_B = 0, DIVR = 0, DIVF = 0, DIVQ = 0, FILTER_RANGE = 0;
    parameter ENABLE_ICEGATE_PORTA = 0, ENABLE_ICEGATE_PORTB = 0, TEST_MODE = 0;
    assign LOCK = 1;
    assign SDO = 0;
endmodule

// Look-up table, carry and flip-flop.
module ICESTORM_LC(input I0, I1, I2, I3, CIN, CLK, CEN, SR, output LO, O, COUT);
    parameter [15:0] LUT_INIT = 0;
    parameter [0:0] NEG_CLK = 0, CARRY_ENABLE = 0, DFF_ENABLE = 0, SET_NORESET = 0, ASYNC_SR = 0, CIN_CONST = 0, CIN_SET = 0;
    wire carry = CIN_CONST ? CIN_SET : CIN;
    reg kept = 0;
    assign COUT = CARRY_ENABLE & (I1 & I2 | (I1 | I2) & carry);
    assign LO = LUT_INIT[{I3, I2, I1, I0}];
    assign O = DFF_ENABLE ? kept : LO;
    generate
        if (NEG_CLK) ICESTORM_LC_edge_without_a_model unknown();
        if (DFF_ENABLE && ASYNC_SR) begin
            always @(posedge CLK, posedge SR)
                if (SR) kept <= SET_NORESET;
                else if (CEN) kept <= LO;
        end else if (DFF_ENABLE) begin
            always @(posedge CLK) if (CEN) kept <= SR ? SET_NORESET : LO;
        end
    endgenerate
endmodule

module ICESTORM_RAM(
    output RDATA_15, RDATA_14, RDATA_13, RDATA_12, RDATA_11, RDATA_10, RDATA_9, RDATA_8, RDATA_7, RDATA_6, RDATA_5, RDATA_4,
    RDATA_3, RDATA_2, RDATA_1, RDATA_0,
    input RCLK, RCLKE, RE, WCLK, WCLKE, WE,
    input RADDR_10, RADDR_9, RADDR_8, RADDR_7, RADDR_6, RADDR_5, RADDR_4, RADDR_3, RADDR_2, RADDR_1, RADDR_0,
    input WADDR_10, WADDR_9, WADDR_8, WADDR_7, WADDR_6, WADDR_5, WADDR_4, WADDR_3, WADDR_2, WADDR_1, WADDR_0,
    input MASK_15, MASK_14, MASK_13, MASK_12, MASK_11, MASK_10, MASK_9, MASK_8, MASK_7, MASK_6, MASK_5, MASK_4, MASK_3,
    MASK_2, MASK_1, MASK_0,
    input WDATA_15, WDATA_14, WDATA_13, WDATA_12, WDATA_11, WDATA_10, WDATA_9, WDATA_8, WDATA_7, WDATA_6, WDATA_5, WDATA_4,
    WDATA_3, WDATA_2, WDATA_1, WDATA_0
);
    parameter [1:0] READ_MODE = 0, WRITE_MODE = 0;
    parameter [0:0] NEG_CLK_R = 0, NEG_CLK_W = 0;
    parameter [255:0] INIT_0 = 0, INIT_1 = 0, INIT_2 = 0, INIT_3 = 0, INIT_4 = 0, INIT_5 = 0, INIT_6 = 0, INIT_7 = 0, INIT_8
    = 0, INIT_9 = 0, INIT_A = 0, INIT_B = 0, INIT_C = 0, INIT_D = 0, INIT_E = 0, INIT_F = 0;
    SB_RAM40_4K #(
        .READ_MODE(READ_MODE), .WRITE_MODE(WRITE_MODE), .INIT_0(INIT_0), .INIT_1(INIT_1), .INIT_2(INIT_2), .INIT_3(INIT_3),
        .INIT_4(INIT_4), .INIT_5(INIT_5), .INIT_6(INIT_6), .INIT_7(INIT_7), .INIT_8(INIT_8), .INIT_9(INIT_9),
        .INIT_A(INIT_A), .INIT_B(INIT_B), .INIT_C(INIT_C), .INIT_D(INIT_D), .INIT_E(INIT_E), .INIT_F(INIT_F)
    ) ram(
        .RCLK(RCLK), .RCLKE(RCLKE), .RE(RE), .WCLK(WCLK), .WCLKE(WCLKE), .WE(WE),
        .RDATA({RDATA_15, RDATA_14, RDATA_13, RDATA_12, RDATA_11, RDATA_10, RDATA_9, RDATA_8, RDATA_7, RDATA_6, RDATA_5,
        RDATA_4, RDATA_3, RDATA_2, RDATA_1, RDATA_0}),
        .RADDR({RADDR_10, RADDR_9, RADDR_8, RADDR_7, RADDR_6, RADDR_5, RADDR_4, RADDR_3, RADDR_2, RADDR_1, RADDR_0}),
        .WADDR({WADDR_10, WADDR_9, WADDR_8, WADDR_7, WADDR_6, WADDR_5, WADDR_4, WADDR_3, WADDR_2, WADDR_1, WADDR_0}),
        .MASK({MASK_15, MASK_14, MASK_13, MASK_12, MASK_11, MASK_10, MASK_9, MASK_8, MASK_7, MASK_6, MASK_5, MASK_4, MASK_3,
        MASK_2, MASK_1, MASK_0}),
        .WDATA({WDATA_15, WDATA_14, WDATA_13, WDATA_12, WDATA_11, WDATA_10, WDATA_9, WDATA_8, WDATA_7, WDATA_6, WDATA_5,
        WDATA_4, WDATA_3, WDATA_2, WDATA_1, WDATA_0})
    );
    generate
        if (NEG_CLK_R || NEG_CLK_W) ICESTORM_RAM_edge_without_a_model unknown();
    endgenerate
endmodule
