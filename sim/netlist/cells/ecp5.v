// Behaviour of the ECP5 cells for which Yosys has none, as far as our netlists use them. Written from Lattice's documents:
// FPGA-TN-02204 (memory), FPGA-TN-02205 (sysDSP), FPGA-TN-02200 (sysCLOCK), FPGA-TN-02032 (sysI/O).
// Whatever a cell is asked to do that is not here is refused by name. tests/test_sim_netlist.py compares each
// with the RTL that it stands for.

// Block RAM: two ports of 1 to 18 bits, or one of 36 that writes and one that reads. 1,024 rows of 18 bits; a port of 9 bits
// has half a row, narrower ones use 8 of each 9 bits. A read that meets a write of the other port in
// its cycle gets the bits inverted that are written: what silicon gives there is not defined, so no design may use it.
module DP16KD(
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18, REGMODE_A = "NOREG", REGMODE_B = "NOREG";
    parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC", CSDECODE_A = "0b000", CSDECODE_B = "0b000";
    parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL", GSR = "AUTO";
    parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB", CEAMUX = "CEA", CEBMUX = "CEB", WEAMUX = "WEA", WEBMUX = "WEB";
    parameter OCEAMUX = "OCEA", OCEBMUX = "OCEB", RSTAMUX = "RSTA", RSTBMUX = "RSTB";
    parameter INIT_DATA = "STATIC", WID = 0;
    parameter INITVAL_00 = 320'h0, INITVAL_01 = 320'h0, INITVAL_02 = 320'h0, INITVAL_03 = 320'h0;
    parameter INITVAL_04 = 320'h0, INITVAL_05 = 320'h0, INITVAL_06 = 320'h0, INITVAL_07 = 320'h0;
    parameter INITVAL_08 = 320'h0, INITVAL_09 = 320'h0, INITVAL_0A = 320'h0, INITVAL_0B = 320'h0;
    parameter INITVAL_0C = 320'h0, INITVAL_0D = 320'h0, INITVAL_0E = 320'h0, INITVAL_0F = 320'h0;
    parameter INITVAL_10 = 320'h0, INITVAL_11 = 320'h0, INITVAL_12 = 320'h0, INITVAL_13 = 320'h0;
    parameter INITVAL_14 = 320'h0, INITVAL_15 = 320'h0, INITVAL_16 = 320'h0, INITVAL_17 = 320'h0;
    parameter INITVAL_18 = 320'h0, INITVAL_19 = 320'h0, INITVAL_1A = 320'h0, INITVAL_1B = 320'h0;
    parameter INITVAL_1C = 320'h0, INITVAL_1D = 320'h0, INITVAL_1E = 320'h0, INITVAL_1F = 320'h0;
    parameter INITVAL_20 = 320'h0, INITVAL_21 = 320'h0, INITVAL_22 = 320'h0, INITVAL_23 = 320'h0;
    parameter INITVAL_24 = 320'h0, INITVAL_25 = 320'h0, INITVAL_26 = 320'h0, INITVAL_27 = 320'h0;
    parameter INITVAL_28 = 320'h0, INITVAL_29 = 320'h0, INITVAL_2A = 320'h0, INITVAL_2B = 320'h0;
    parameter INITVAL_2C = 320'h0, INITVAL_2D = 320'h0, INITVAL_2E = 320'h0, INITVAL_2F = 320'h0;
    parameter INITVAL_30 = 320'h0, INITVAL_31 = 320'h0, INITVAL_32 = 320'h0, INITVAL_33 = 320'h0;
    parameter INITVAL_34 = 320'h0, INITVAL_35 = 320'h0, INITVAL_36 = 320'h0, INITVAL_37 = 320'h0;
    parameter INITVAL_38 = 320'h0, INITVAL_39 = 320'h0, INITVAL_3A = 320'h0, INITVAL_3B = 320'h0;
    parameter INITVAL_3C = 320'h0, INITVAL_3D = 320'h0, INITVAL_3E = 320'h0, INITVAL_3F = 320'h0;
    localparam [64 * 320 - 1:0] INIT = {INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};

    reg [17:0] rows [0:1023];
    integer place;
    initial for (place = 0; place < 1024; place = place + 1) rows[place] = INIT[place * 20 +: 18];

    wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0}, adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [17:0] dia = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0}, dib = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
    wire on_a = CEA & ~CSA0 & ~CSA1 & ~CSA2, on_b = CEB & ~CSB0 & ~CSB1 & ~CSB2;
    wire write_a = on_a & WEA, write_b = on_b & WEB;

    // Where an address points: the row, what of it, and which of 18 bits a write changes.
    function [17:0] mask(input integer width, input [13:0] at);
        case (width)
            36, 18: mask = {{9{at[1]}}, {9{at[0]}}};
            9: mask = at[3] ? {9'h1ff, 9'h0} : 18'h1ff;
            4: mask = 18'hf << (9 * at[3] + 4 * at[2]);
            2: mask = 18'h3 << (9 * at[3] + 2 * at[2:1]);
            default: mask = 18'h1 << (9 * at[3] + at[2:0]);
        endcase
    endfunction
    function [17:0] spread(input integer width, input [17:0] data);
        case (width)
            36, 18: spread = data;
            9: spread = {2{data[8:0]}};
            4: spread = {2{1'b0, {2{data[3:0]}}}};
            2: spread = {2{1'b0, {4{data[1:0]}}}};
            default: spread = {2{1'b0, {8{data[0]}}}};
        endcase
    endfunction
    function [17:0] part(input integer width, input [13:0] at, input [17:0] row);
        case (width)
            36, 18: part = row;
            9: part = at[3] ? row[17:9] : row[8:0];
            4: part = 18'hf & (row >> (9 * at[3] + 4 * at[2]));
            2: part = 18'h3 & (row >> (9 * at[3] + 2 * at[2:1]));
            default: part = 18'h1 & (row >> (9 * at[3] + at[2:0]));
        endcase
    endfunction

    localparam WIDE_A = DATA_WIDTH_A == 36, WIDE_B = DATA_WIDTH_B == 36;
    wire [9:0] row_a = WIDE_A ? {ada[13:5], 1'b0} : ada[13:4], row_b = WIDE_B ? {adb[13:5], 1'b0} : adb[13:4];
    wire [17:0] mask_a = mask(DATA_WIDTH_A, ada), mask_b = mask(DATA_WIDTH_B, adb);
    wire [17:0] mask_high = {{9{ada[3]}}, {9{ada[2]}}};
    wire [17:0] data_a = spread(DATA_WIDTH_A, dia), data_b = spread(DATA_WIDTH_B, dib);
    always @(posedge CLKA) if (write_a) rows[row_a] <= rows[row_a] & ~mask_a | data_a & mask_a;
    generate
        if (WIDE_A) always @(posedge CLKA)
            if (write_a) rows[row_a | 10'd1] <= rows[row_a | 10'd1] & ~mask_high | dib & mask_high;
        if (!WIDE_A) always @(posedge CLKB) if (write_b) rows[row_b] <= rows[row_b] & ~mask_b | data_b & mask_b;
    endgenerate

    reg [17:0] out_a = 0, out_b = 0, out_high = 0;
    // Bits of a row that a write of the other port changes in this cycle (both ports have one clock).
    function [17:0] meets(input [9:0] row);
        meets = (write_a & row == row_a ? mask_a : 18'h0) | (write_a & WIDE_A & row == (row_a | 10'd1) ? mask_high : 18'h0);
    endfunction
    wire [17:0] meets_a = write_b & ~WIDE_A & row_a == row_b ? mask_b : 18'h0;
    // Resets of our memories are tied to 0; a write gives the old row where the mode says so.
    localparam OLD_A = WRITEMODE_A == "READBEFOREWRITE", OLD_B = WRITEMODE_B == "READBEFOREWRITE" || WIDE_A;
    always @(posedge CLKA) if (on_a & RSTA) out_a <= 0;
        else if (on_a & (OLD_A | ~WEA)) out_a <= part(DATA_WIDTH_A, ada, rows[row_a] ^ meets_a);
    always @(posedge CLKB) if (on_b & RSTB) begin
            out_b <= 0;
            out_high <= 0;
        end else if (on_b & (OLD_B | ~WEB)) begin
            out_b <= part(DATA_WIDTH_B, adb, rows[row_b] ^ meets(row_b));
            out_high <= rows[row_b | 10'd1] ^ meets(row_b | 10'd1);
        end
    // A port of 36 bits reads its low half on DOA, its high half on DOB.
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} = WIDE_B ? out_b : out_a;
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0} = WIDE_B ? out_high : out_b;

    generate
        if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || WRITEMODE_A == "WRITETHROUGH" || WRITEMODE_B == "WRITETHROUGH"
            || CLKAMUX != "CLKA" || CLKBMUX != "CLKB") DP16KD_mode_without_a_model unknown();
    endgenerate
endmodule

// Multiplier of 18 x 18 bits without registers, as Yosys maps `$mul` to it.
module MULT18X18D(
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SRIA17, SRIA16, SRIA15, SRIA14, SRIA13, SRIA12, SRIA11, SRIA10, SRIA9, SRIA8, SRIA7, SRIA6, SRIA5, SRIA4, SRIA3, SRIA2, SRIA1, SRIA0,
    input SRIB17, SRIB16, SRIB15, SRIB14, SRIB13, SRIB12, SRIB11, SRIB10, SRIB9, SRIB8, SRIB7, SRIB6, SRIB5, SRIB4, SRIB3, SRIB2, SRIB1, SRIB0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input CLK3, CLK2, CLK1, CLK0, CE3, CE2, CE1, CE0, RST3, RST2, RST1, RST0,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0,
    output SIGNEDP
);
    parameter REG_INPUTA_CLK = "NONE", REG_INPUTB_CLK = "NONE", REG_INPUTC_CLK = "NONE", REG_PIPELINE_CLK = "NONE";
    parameter REG_OUTPUT_CLK = "NONE", SOURCEB_MODE = "B_SHIFT", MULT_BYPASS = "DISABLED", GSR = "ENABLED";
    wire signed [18:0] a = {SIGNEDA & A17, A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0}, b = {SIGNEDB & B17, B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    wire signed [37:0] product = a * b;
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = product[35:0];
    assign SIGNEDP = SIGNEDA | SIGNEDB;
    generate
        if (REG_INPUTA_CLK != "NONE" || REG_INPUTB_CLK != "NONE" || REG_PIPELINE_CLK != "NONE" || REG_OUTPUT_CLK != "NONE")
            MULT18X18D_register_without_a_model unknown();
    endgenerate
endmodule

// PLL: the simulated clock is the one that it makes, so it passes its input on, locked from the start.
module EHXPLLL(
    input CLKI, CLKFB, PHASESEL1, PHASESEL0, PHASEDIR, PHASESTEP, PHASELOADREG, STDBY, PLLWAKESYNC, RST,
    input ENCLKOP, ENCLKOS, ENCLKOS2, ENCLKOS3,
    output CLKOP, CLKOS, CLKOS2, CLKOS3, LOCK, INTLOCK, REFCLK, CLKINTFB
);
    parameter PLLRST_ENA = "DISABLED", INTFB_WAKE = "DISABLED", STDBY_ENABLE = "DISABLED", DPHASE_SOURCE = "DISABLED";
    parameter OUTDIVIDER_MUXA = "DIVA", OUTDIVIDER_MUXB = "DIVB", OUTDIVIDER_MUXC = "DIVC", OUTDIVIDER_MUXD = "DIVD";
    parameter CLKI_DIV = 1, CLKFB_DIV = 1, FEEDBK_PATH = "CLKOP", PLL_LOCK_MODE = 0, PLL_LOCK_DELAY = 200;
    parameter CLKOP_ENABLE = "ENABLED", CLKOP_DIV = 8, CLKOP_CPHASE = 0, CLKOP_FPHASE = 0;
    parameter CLKOS_ENABLE = "DISABLED", CLKOS_DIV = 8, CLKOS_CPHASE = 0, CLKOS_FPHASE = 0;
    parameter CLKOS2_ENABLE = "DISABLED", CLKOS2_DIV = 8, CLKOS2_CPHASE = 0, CLKOS2_FPHASE = 0;
    parameter CLKOS3_ENABLE = "DISABLED", CLKOS3_DIV = 8, CLKOS3_CPHASE = 0, CLKOS3_FPHASE = 0;
    assign {CLKOP, CLKOS, CLKOS2, CLKOS3, REFCLK, CLKINTFB} = {6{CLKI}};
    assign {LOCK, INTLOCK} = 2'b11;
endmodule

// Pin.
module TRELLIS_IO(inout B, input I, T, output O);
    parameter DIR = "INPUT";
    generate
        if (DIR == "INPUT") assign O = B;
        else if (DIR == "BIDIR") begin
            assign B = T ? 1'bz : I;
            assign O = B;
        end else begin
            assign B = I;
            assign O = I;
        end
    endgenerate
endmodule

// Clock buffer.
module DCCA(input CLKI, CE, output CLKO);
    assign CLKO = CLKI;
endmodule

// Two data bits a clock, to a pin: ours is the clock of a memory chip, which the simulated chip does not look at.
module ODDRX1F(input SCLK, RST, D0, D1, output Q);
    parameter GSR = "ENABLED";
    reg first = 0, second = 0;
    always @(posedge SCLK) begin
        first <= D0;
        second <= D1;
    end
    assign Q = SCLK ? first : second;
endmodule

// Flip-flop. Its data is M where nextpnr came in that way (SD = "0"), else DI.
module TRELLIS_FF(input CLK, LSR, CE, DI, M, output reg Q);
    parameter GSR = "ENABLED", CLKMUX = "CLK", LSRMUX = "LSR", SRMODE = "LSR_OVER_CE", REGSET = "RESET", LSRMODE = "LSR";
    parameter [127:0] CEMUX = "1";
    parameter [127:0] SD = "1";
    wire enable = CEMUX == "1" ? 1'b1 : CEMUX == "INV" ? ~CE : CE;
    wire data = SD == "0" ? M : DI;
    wire value = REGSET == "SET";
    wire reset = LSRMUX == "INV" ? ~LSR : LSR;
    initial Q = value;
    generate
        if (CLKMUX != "CLK" || LSRMODE != "LSR") TRELLIS_FF_way_without_a_model unknown();
        if (SRMODE == "ASYNC") begin
            always @(posedge CLK, posedge reset)
                if (reset) Q <= value;
                else if (enable) Q <= data;
        end else begin
            always @(posedge CLK)
                if (reset) Q <= value;
                else if (enable) Q <= data;
        end
    endgenerate
endmodule

// Half a slice as nextpnr packs it: a LUT, half of a CCU2C, a bit column of a distributed RAM, or the place of its write port. OFX
// joins two LUTs (IS_Z1 = 0) or two such pairs (1).
module TRELLIS_COMB(
    input A, B, C, D, M, FCI, F1, FXA, FXB, WD, WAD0, WAD1, WAD2, WAD3, WRE, WCK, DI0, DI1,
    output F, FCO, OFX
);
    parameter MODE = "LOGIC", CCU2_INJECT1 = "NO", WREMUX = "WRE", WCKMUX = "WCK";
    parameter [15:0] INITVAL = 0;
    parameter [0:0] IS_Z1 = 0;
    wire four = INITVAL[{D, C, B, A}], two = INITVAL[{2'b00, B, A}];
    wire carry = CCU2_INJECT1 == "YES" ? 1'b0 : FCI;
    assign OFX = IS_Z1 ? (M ? FXB : FXA) : (M ? F1 : F);
    generate
        if (MODE == "DPRAM") begin
            reg [15:0] bits = INITVAL;
            always @(posedge WCK) if (WRE) bits[{WAD3, WAD2, WAD1, WAD0}] <= WD;
            assign F = bits[{A, C, B, D}];
            assign FCO = 0;
            if (WREMUX != "WRE" || WCKMUX != "WCK") TRELLIS_COMB_way_without_a_model unknown();
        end else if (MODE == "CCU2") begin
            assign F = four ^ carry;
            assign FCO = four ? FCI : CCU2_INJECT1 == "YES" ? 1'b0 : two;
        end else begin
            assign F = MODE == "RAMW_BLOCK" ? 1'b0 : four;
            assign FCO = 0;
            if (MODE != "LOGIC" && MODE != "RAMW_BLOCK") TRELLIS_COMB_mode_without_a_model unknown();
        end
    endgenerate
endmodule

// The write port of four such columns: wires.
module TRELLIS_RAMW(
    input A0, B0, C0, D0, A1, B1, C1, D1,
    output WADO0, WADO1, WADO2, WADO3, WDO0, WDO1, WDO2, WDO3
);
    assign {WADO3, WADO2, WADO1, WADO0} = {A0, C0, B0, D0};
    assign {WDO3, WDO2, WDO1, WDO0} = {B1, D1, A1, C1};
endmodule
