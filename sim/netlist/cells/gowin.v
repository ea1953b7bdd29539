// Behaviour of the Gowin cells for which Yosys has none, as far as our netlists use them. Written from Gowin's documents: UG285 (BSRAM),
// UG287 (DSP), UG286 (clocks). tests/test_sim_netlist.py compares each with the RTL that it stands for.

// Block RAM of 512 rows of four units (8 or 9 bits), under both of its ports. `AD[13:5]` is the row. A port of one, two or four units has
// its units' write enables in AD[3:0] (four) or AD[1:0] (two). A read that meets a write of the other port in its cycle gets the
// bits inverted that are written: what silicon gives there is not defined, so no design may use it.
module tritape_gowin_bsram(
    input CLKA, CEA, WEA, RSTA, input [13:0] ADA, input [35:0] DIA, output reg [35:0] DOA,
    input CLKB, CEB, WEB, RSTB, input [13:0] ADB, input [35:0] DIB, output reg [35:0] DOB
);
    parameter UNIT = 8, WIDTH_A = 32, WIDTH_B = 32;
    parameter [64 * 32 * UNIT - 1:0] INIT = 0;
    localparam ROW = 4 * UNIT;
    reg [ROW - 1:0] rows [0:511];
    integer place;
    initial begin
        for (place = 0; place < 512; place = place + 1) rows[place] = INIT[place * ROW +: ROW];
        DOA = 0;
        DOB = 0;
    end
    // First bit of what an address points at, and how many bits a write changes there.
    function integer first(input integer width, input [13:0] at);
        case (width)
            4 * UNIT: first = 0;
            2 * UNIT: first = at[4] ? 2 * UNIT : 0;
            UNIT: first = UNIT * at[4:3];
            4: first = UNIT * at[4:3] + 4 * at[2];
            2: first = UNIT * at[4:3] + 2 * at[2:1];
            default: first = UNIT * at[4:3] + at[2:0];
        endcase
    endfunction
    function [35:0] mask(input integer width, input [13:0] at);
        case (width)
            4 * UNIT: mask = {{UNIT{at[3]}}, {UNIT{at[2]}}, {UNIT{at[1]}}, {UNIT{at[0]}}};
            2 * UNIT: mask = {{UNIT{at[1]}}, {UNIT{at[0]}}} << first(width, at);
            default: mask = ((36'h1 << width) - 36'h1) << first(width, at);
        endcase
    endfunction
    wire [35:0] mask_a = mask(WIDTH_A, ADA), mask_b = mask(WIDTH_B, ADB);
    wire [35:0] data_a = DIA << first(WIDTH_A, ADA), data_b = DIB << first(WIDTH_B, ADB);
    wire [35:0] keep_a = (36'h1 << WIDTH_A) - 36'h1, keep_b = (36'h1 << WIDTH_B) - 36'h1;
    wire write_a = CEA & WEA, write_b = CEB & WEB, same = ADA[13:5] == ADB[13:5];
    always @(posedge CLKA) begin
        if (write_a) rows[ADA[13:5]] <= rows[ADA[13:5]] & ~mask_a | data_a & mask_a;
        if (CEA & RSTA) DOA <= 0;
        else if (CEA & ~WEA) DOA <= ((rows[ADA[13:5]] ^ (write_b & same ? mask_b : 36'h0)) >> first(WIDTH_A, ADA)) & keep_a;
    end
    always @(posedge CLKB) begin
        if (write_b) rows[ADB[13:5]] <= rows[ADB[13:5]] & ~mask_b | data_b & mask_b;
        if (CEB & RSTB) DOB <= 0;
        else if (CEB & ~WEB) DOB <= ((rows[ADB[13:5]] ^ (write_a & same ? mask_a : 36'h0)) >> first(WIDTH_B, ADB)) & keep_b;
    end
endmodule

// Port A writes, port B reads.
module SDPB(
    input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, input [13:0] ADA, ADB, input [31:0] DI, input [2:0] BLKSELA, BLKSELB,
    output [31:0] DO
);
    parameter READ_MODE = 1'b0, BIT_WIDTH_0 = 32, BIT_WIDTH_1 = 32, BLK_SEL_0 = 3'b000, BLK_SEL_1 = 3'b000, RESET_MODE = "SYNC";
    parameter INIT_RAM_00 = 256'h0, INIT_RAM_01 = 256'h0, INIT_RAM_02 = 256'h0, INIT_RAM_03 = 256'h0;
    parameter INIT_RAM_04 = 256'h0, INIT_RAM_05 = 256'h0, INIT_RAM_06 = 256'h0, INIT_RAM_07 = 256'h0;
    parameter INIT_RAM_08 = 256'h0, INIT_RAM_09 = 256'h0, INIT_RAM_0A = 256'h0, INIT_RAM_0B = 256'h0;
    parameter INIT_RAM_0C = 256'h0, INIT_RAM_0D = 256'h0, INIT_RAM_0E = 256'h0, INIT_RAM_0F = 256'h0;
    parameter INIT_RAM_10 = 256'h0, INIT_RAM_11 = 256'h0, INIT_RAM_12 = 256'h0, INIT_RAM_13 = 256'h0;
    parameter INIT_RAM_14 = 256'h0, INIT_RAM_15 = 256'h0, INIT_RAM_16 = 256'h0, INIT_RAM_17 = 256'h0;
    parameter INIT_RAM_18 = 256'h0, INIT_RAM_19 = 256'h0, INIT_RAM_1A = 256'h0, INIT_RAM_1B = 256'h0;
    parameter INIT_RAM_1C = 256'h0, INIT_RAM_1D = 256'h0, INIT_RAM_1E = 256'h0, INIT_RAM_1F = 256'h0;
    parameter INIT_RAM_20 = 256'h0, INIT_RAM_21 = 256'h0, INIT_RAM_22 = 256'h0, INIT_RAM_23 = 256'h0;
    parameter INIT_RAM_24 = 256'h0, INIT_RAM_25 = 256'h0, INIT_RAM_26 = 256'h0, INIT_RAM_27 = 256'h0;
    parameter INIT_RAM_28 = 256'h0, INIT_RAM_29 = 256'h0, INIT_RAM_2A = 256'h0, INIT_RAM_2B = 256'h0;
    parameter INIT_RAM_2C = 256'h0, INIT_RAM_2D = 256'h0, INIT_RAM_2E = 256'h0, INIT_RAM_2F = 256'h0;
    parameter INIT_RAM_30 = 256'h0, INIT_RAM_31 = 256'h0, INIT_RAM_32 = 256'h0, INIT_RAM_33 = 256'h0;
    parameter INIT_RAM_34 = 256'h0, INIT_RAM_35 = 256'h0, INIT_RAM_36 = 256'h0, INIT_RAM_37 = 256'h0;
    parameter INIT_RAM_38 = 256'h0, INIT_RAM_39 = 256'h0, INIT_RAM_3A = 256'h0, INIT_RAM_3B = 256'h0;
    parameter INIT_RAM_3C = 256'h0, INIT_RAM_3D = 256'h0, INIT_RAM_3E = 256'h0, INIT_RAM_3F = 256'h0;
    wire [35:0] out;
    assign DO = out[31:0];
    tritape_gowin_bsram #(.UNIT(8), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .INIT({INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38, INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30, INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08, INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00})) ram (
        .CLKA(CLKA), .CEA(CEA & BLKSELA == BLK_SEL_0), .WEA(1'b1), .RSTA(1'b0), .ADA(ADA), .DIA(DI), .DOA(),
        .CLKB(CLKB), .CEB(CEB & BLKSELB == BLK_SEL_1), .WEB(1'b0), .RSTB(RESETB), .ADB(ADB), .DIB(36'h0), .DOB(out)
    );
endmodule

// Port A writes, port B reads.
module SDPX9B(
    input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, input [13:0] ADA, ADB, input [35:0] DI, input [2:0] BLKSELA, BLKSELB,
    output [35:0] DO
);
    parameter READ_MODE = 1'b0, BIT_WIDTH_0 = 36, BIT_WIDTH_1 = 36, BLK_SEL_0 = 3'b000, BLK_SEL_1 = 3'b000, RESET_MODE = "SYNC";
    parameter INIT_RAM_00 = 288'h0, INIT_RAM_01 = 288'h0, INIT_RAM_02 = 288'h0, INIT_RAM_03 = 288'h0;
    parameter INIT_RAM_04 = 288'h0, INIT_RAM_05 = 288'h0, INIT_RAM_06 = 288'h0, INIT_RAM_07 = 288'h0;
    parameter INIT_RAM_08 = 288'h0, INIT_RAM_09 = 288'h0, INIT_RAM_0A = 288'h0, INIT_RAM_0B = 288'h0;
    parameter INIT_RAM_0C = 288'h0, INIT_RAM_0D = 288'h0, INIT_RAM_0E = 288'h0, INIT_RAM_0F = 288'h0;
    parameter INIT_RAM_10 = 288'h0, INIT_RAM_11 = 288'h0, INIT_RAM_12 = 288'h0, INIT_RAM_13 = 288'h0;
    parameter INIT_RAM_14 = 288'h0, INIT_RAM_15 = 288'h0, INIT_RAM_16 = 288'h0, INIT_RAM_17 = 288'h0;
    parameter INIT_RAM_18 = 288'h0, INIT_RAM_19 = 288'h0, INIT_RAM_1A = 288'h0, INIT_RAM_1B = 288'h0;
    parameter INIT_RAM_1C = 288'h0, INIT_RAM_1D = 288'h0, INIT_RAM_1E = 288'h0, INIT_RAM_1F = 288'h0;
    parameter INIT_RAM_20 = 288'h0, INIT_RAM_21 = 288'h0, INIT_RAM_22 = 288'h0, INIT_RAM_23 = 288'h0;
    parameter INIT_RAM_24 = 288'h0, INIT_RAM_25 = 288'h0, INIT_RAM_26 = 288'h0, INIT_RAM_27 = 288'h0;
    parameter INIT_RAM_28 = 288'h0, INIT_RAM_29 = 288'h0, INIT_RAM_2A = 288'h0, INIT_RAM_2B = 288'h0;
    parameter INIT_RAM_2C = 288'h0, INIT_RAM_2D = 288'h0, INIT_RAM_2E = 288'h0, INIT_RAM_2F = 288'h0;
    parameter INIT_RAM_30 = 288'h0, INIT_RAM_31 = 288'h0, INIT_RAM_32 = 288'h0, INIT_RAM_33 = 288'h0;
    parameter INIT_RAM_34 = 288'h0, INIT_RAM_35 = 288'h0, INIT_RAM_36 = 288'h0, INIT_RAM_37 = 288'h0;
    parameter INIT_RAM_38 = 288'h0, INIT_RAM_39 = 288'h0, INIT_RAM_3A = 288'h0, INIT_RAM_3B = 288'h0;
    parameter INIT_RAM_3C = 288'h0, INIT_RAM_3D = 288'h0, INIT_RAM_3E = 288'h0, INIT_RAM_3F = 288'h0;
    wire [35:0] out;
    assign DO = out[35:0];
    tritape_gowin_bsram #(.UNIT(9), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .INIT({INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38, INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30, INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08, INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00})) ram (
        .CLKA(CLKA), .CEA(CEA & BLKSELA == BLK_SEL_0), .WEA(1'b1), .RSTA(1'b0), .ADA(ADA), .DIA(DI), .DOA(),
        .CLKB(CLKB), .CEB(CEB & BLKSELB == BLK_SEL_1), .WEB(1'b0), .RSTB(RESETB), .ADB(ADB), .DIB(36'h0), .DOB(out)
    );
endmodule

// Both ports write and read.
module DPB(
    input CLKA, CEA, CLKB, CEB, OCEA, OCEB, RESETA, RESETB, WREA, WREB, input [13:0] ADA, ADB, input [15:0] DIA, DIB,
    input [2:0] BLKSELA, BLKSELB, output [15:0] DOA, DOB
);
    parameter READ_MODE0 = 1'b0, READ_MODE1 = 1'b0, WRITE_MODE0 = 2'b00, WRITE_MODE1 = 2'b00, BIT_WIDTH_0 = 16, BIT_WIDTH_1 = 16;
    parameter BLK_SEL_0 = 3'b000, BLK_SEL_1 = 3'b000, RESET_MODE = "SYNC";
    parameter INIT_RAM_00 = 256'h0, INIT_RAM_01 = 256'h0, INIT_RAM_02 = 256'h0, INIT_RAM_03 = 256'h0;
    parameter INIT_RAM_04 = 256'h0, INIT_RAM_05 = 256'h0, INIT_RAM_06 = 256'h0, INIT_RAM_07 = 256'h0;
    parameter INIT_RAM_08 = 256'h0, INIT_RAM_09 = 256'h0, INIT_RAM_0A = 256'h0, INIT_RAM_0B = 256'h0;
    parameter INIT_RAM_0C = 256'h0, INIT_RAM_0D = 256'h0, INIT_RAM_0E = 256'h0, INIT_RAM_0F = 256'h0;
    parameter INIT_RAM_10 = 256'h0, INIT_RAM_11 = 256'h0, INIT_RAM_12 = 256'h0, INIT_RAM_13 = 256'h0;
    parameter INIT_RAM_14 = 256'h0, INIT_RAM_15 = 256'h0, INIT_RAM_16 = 256'h0, INIT_RAM_17 = 256'h0;
    parameter INIT_RAM_18 = 256'h0, INIT_RAM_19 = 256'h0, INIT_RAM_1A = 256'h0, INIT_RAM_1B = 256'h0;
    parameter INIT_RAM_1C = 256'h0, INIT_RAM_1D = 256'h0, INIT_RAM_1E = 256'h0, INIT_RAM_1F = 256'h0;
    parameter INIT_RAM_20 = 256'h0, INIT_RAM_21 = 256'h0, INIT_RAM_22 = 256'h0, INIT_RAM_23 = 256'h0;
    parameter INIT_RAM_24 = 256'h0, INIT_RAM_25 = 256'h0, INIT_RAM_26 = 256'h0, INIT_RAM_27 = 256'h0;
    parameter INIT_RAM_28 = 256'h0, INIT_RAM_29 = 256'h0, INIT_RAM_2A = 256'h0, INIT_RAM_2B = 256'h0;
    parameter INIT_RAM_2C = 256'h0, INIT_RAM_2D = 256'h0, INIT_RAM_2E = 256'h0, INIT_RAM_2F = 256'h0;
    parameter INIT_RAM_30 = 256'h0, INIT_RAM_31 = 256'h0, INIT_RAM_32 = 256'h0, INIT_RAM_33 = 256'h0;
    parameter INIT_RAM_34 = 256'h0, INIT_RAM_35 = 256'h0, INIT_RAM_36 = 256'h0, INIT_RAM_37 = 256'h0;
    parameter INIT_RAM_38 = 256'h0, INIT_RAM_39 = 256'h0, INIT_RAM_3A = 256'h0, INIT_RAM_3B = 256'h0;
    parameter INIT_RAM_3C = 256'h0, INIT_RAM_3D = 256'h0, INIT_RAM_3E = 256'h0, INIT_RAM_3F = 256'h0;
    wire [35:0] a, b;
    assign DOA = a[15:0];
    assign DOB = b[15:0];
    tritape_gowin_bsram #(.UNIT(8), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .INIT({INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38, INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30, INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08, INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00})) ram (
        .CLKA(CLKA), .CEA(CEA & BLKSELA == BLK_SEL_0), .WEA(WREA), .RSTA(RESETA), .ADA(ADA), .DIA(DIA), .DOA(a),
        .CLKB(CLKB), .CEB(CEB & BLKSELB == BLK_SEL_1), .WEB(WREB), .RSTB(RESETB), .ADB(ADB), .DIB(DIB), .DOB(b)
    );
endmodule

// Both ports write and read.
module DPX9B(
    input CLKA, CEA, CLKB, CEB, OCEA, OCEB, RESETA, RESETB, WREA, WREB, input [13:0] ADA, ADB, input [17:0] DIA, DIB,
    input [2:0] BLKSELA, BLKSELB, output [17:0] DOA, DOB
);
    parameter READ_MODE0 = 1'b0, READ_MODE1 = 1'b0, WRITE_MODE0 = 2'b00, WRITE_MODE1 = 2'b00, BIT_WIDTH_0 = 18, BIT_WIDTH_1 = 18;
    parameter BLK_SEL_0 = 3'b000, BLK_SEL_1 = 3'b000, RESET_MODE = "SYNC";
    parameter INIT_RAM_00 = 288'h0, INIT_RAM_01 = 288'h0, INIT_RAM_02 = 288'h0, INIT_RAM_03 = 288'h0;
    parameter INIT_RAM_04 = 288'h0, INIT_RAM_05 = 288'h0, INIT_RAM_06 = 288'h0, INIT_RAM_07 = 288'h0;
    parameter INIT_RAM_08 = 288'h0, INIT_RAM_09 = 288'h0, INIT_RAM_0A = 288'h0, INIT_RAM_0B = 288'h0;
    parameter INIT_RAM_0C = 288'h0, INIT_RAM_0D = 288'h0, INIT_RAM_0E = 288'h0, INIT_RAM_0F = 288'h0;
    parameter INIT_RAM_10 = 288'h0, INIT_RAM_11 = 288'h0, INIT_RAM_12 = 288'h0, INIT_RAM_13 = 288'h0;
    parameter INIT_RAM_14 = 288'h0, INIT_RAM_15 = 288'h0, INIT_RAM_16 = 288'h0, INIT_RAM_17 = 288'h0;
    parameter INIT_RAM_18 = 288'h0, INIT_RAM_19 = 288'h0, INIT_RAM_1A = 288'h0, INIT_RAM_1B = 288'h0;
    parameter INIT_RAM_1C = 288'h0, INIT_RAM_1D = 288'h0, INIT_RAM_1E = 288'h0, INIT_RAM_1F = 288'h0;
    parameter INIT_RAM_20 = 288'h0, INIT_RAM_21 = 288'h0, INIT_RAM_22 = 288'h0, INIT_RAM_23 = 288'h0;
    parameter INIT_RAM_24 = 288'h0, INIT_RAM_25 = 288'h0, INIT_RAM_26 = 288'h0, INIT_RAM_27 = 288'h0;
    parameter INIT_RAM_28 = 288'h0, INIT_RAM_29 = 288'h0, INIT_RAM_2A = 288'h0, INIT_RAM_2B = 288'h0;
    parameter INIT_RAM_2C = 288'h0, INIT_RAM_2D = 288'h0, INIT_RAM_2E = 288'h0, INIT_RAM_2F = 288'h0;
    parameter INIT_RAM_30 = 288'h0, INIT_RAM_31 = 288'h0, INIT_RAM_32 = 288'h0, INIT_RAM_33 = 288'h0;
    parameter INIT_RAM_34 = 288'h0, INIT_RAM_35 = 288'h0, INIT_RAM_36 = 288'h0, INIT_RAM_37 = 288'h0;
    parameter INIT_RAM_38 = 288'h0, INIT_RAM_39 = 288'h0, INIT_RAM_3A = 288'h0, INIT_RAM_3B = 288'h0;
    parameter INIT_RAM_3C = 288'h0, INIT_RAM_3D = 288'h0, INIT_RAM_3E = 288'h0, INIT_RAM_3F = 288'h0;
    wire [35:0] a, b;
    assign DOA = a[17:0];
    assign DOB = b[17:0];
    tritape_gowin_bsram #(.UNIT(9), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .INIT({INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38, INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30, INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08, INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00})) ram (
        .CLKA(CLKA), .CEA(CEA & BLKSELA == BLK_SEL_0), .WEA(WREA), .RSTA(RESETA), .ADA(ADA), .DIA(DIA), .DOA(a),
        .CLKB(CLKB), .CEB(CEB & BLKSELB == BLK_SEL_1), .WEB(WREB), .RSTB(RESETB), .ADB(ADB), .DIB(DIB), .DOB(b)
    );
endmodule

// One port.
module SP(
    input CLK, CE, OCE, RESET, WRE, input [13:0] AD, input [31:0] DI, input [2:0] BLKSEL, output [31:0] DO
);
    parameter READ_MODE = 1'b0, WRITE_MODE = 2'b00, BIT_WIDTH = 32, BLK_SEL = 3'b000, RESET_MODE = "SYNC";
    parameter INIT_RAM_00 = 256'h0, INIT_RAM_01 = 256'h0, INIT_RAM_02 = 256'h0, INIT_RAM_03 = 256'h0;
    parameter INIT_RAM_04 = 256'h0, INIT_RAM_05 = 256'h0, INIT_RAM_06 = 256'h0, INIT_RAM_07 = 256'h0;
    parameter INIT_RAM_08 = 256'h0, INIT_RAM_09 = 256'h0, INIT_RAM_0A = 256'h0, INIT_RAM_0B = 256'h0;
    parameter INIT_RAM_0C = 256'h0, INIT_RAM_0D = 256'h0, INIT_RAM_0E = 256'h0, INIT_RAM_0F = 256'h0;
    parameter INIT_RAM_10 = 256'h0, INIT_RAM_11 = 256'h0, INIT_RAM_12 = 256'h0, INIT_RAM_13 = 256'h0;
    parameter INIT_RAM_14 = 256'h0, INIT_RAM_15 = 256'h0, INIT_RAM_16 = 256'h0, INIT_RAM_17 = 256'h0;
    parameter INIT_RAM_18 = 256'h0, INIT_RAM_19 = 256'h0, INIT_RAM_1A = 256'h0, INIT_RAM_1B = 256'h0;
    parameter INIT_RAM_1C = 256'h0, INIT_RAM_1D = 256'h0, INIT_RAM_1E = 256'h0, INIT_RAM_1F = 256'h0;
    parameter INIT_RAM_20 = 256'h0, INIT_RAM_21 = 256'h0, INIT_RAM_22 = 256'h0, INIT_RAM_23 = 256'h0;
    parameter INIT_RAM_24 = 256'h0, INIT_RAM_25 = 256'h0, INIT_RAM_26 = 256'h0, INIT_RAM_27 = 256'h0;
    parameter INIT_RAM_28 = 256'h0, INIT_RAM_29 = 256'h0, INIT_RAM_2A = 256'h0, INIT_RAM_2B = 256'h0;
    parameter INIT_RAM_2C = 256'h0, INIT_RAM_2D = 256'h0, INIT_RAM_2E = 256'h0, INIT_RAM_2F = 256'h0;
    parameter INIT_RAM_30 = 256'h0, INIT_RAM_31 = 256'h0, INIT_RAM_32 = 256'h0, INIT_RAM_33 = 256'h0;
    parameter INIT_RAM_34 = 256'h0, INIT_RAM_35 = 256'h0, INIT_RAM_36 = 256'h0, INIT_RAM_37 = 256'h0;
    parameter INIT_RAM_38 = 256'h0, INIT_RAM_39 = 256'h0, INIT_RAM_3A = 256'h0, INIT_RAM_3B = 256'h0;
    parameter INIT_RAM_3C = 256'h0, INIT_RAM_3D = 256'h0, INIT_RAM_3E = 256'h0, INIT_RAM_3F = 256'h0;
    wire [35:0] out;
    assign DO = out[31:0];
    tritape_gowin_bsram #(.UNIT(8), .WIDTH_A(BIT_WIDTH), .WIDTH_B(BIT_WIDTH), .INIT({INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38, INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30, INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08, INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00})) ram (
        .CLKA(CLK), .CEA(CE & BLKSEL == BLK_SEL), .WEA(WRE), .RSTA(RESET), .ADA(AD), .DIA(DI), .DOA(out),
        .CLKB(CLK), .CEB(1'b0), .WEB(1'b0), .RSTB(1'b0), .ADB(14'h0), .DIB(36'h0), .DOB()
    );
endmodule

// One port.
module SPX9(
    input CLK, CE, OCE, RESET, WRE, input [13:0] AD, input [35:0] DI, input [2:0] BLKSEL, output [35:0] DO
);
    parameter READ_MODE = 1'b0, WRITE_MODE = 2'b00, BIT_WIDTH = 36, BLK_SEL = 3'b000, RESET_MODE = "SYNC";
    parameter INIT_RAM_00 = 288'h0, INIT_RAM_01 = 288'h0, INIT_RAM_02 = 288'h0, INIT_RAM_03 = 288'h0;
    parameter INIT_RAM_04 = 288'h0, INIT_RAM_05 = 288'h0, INIT_RAM_06 = 288'h0, INIT_RAM_07 = 288'h0;
    parameter INIT_RAM_08 = 288'h0, INIT_RAM_09 = 288'h0, INIT_RAM_0A = 288'h0, INIT_RAM_0B = 288'h0;
    parameter INIT_RAM_0C = 288'h0, INIT_RAM_0D = 288'h0, INIT_RAM_0E = 288'h0, INIT_RAM_0F = 288'h0;
    parameter INIT_RAM_10 = 288'h0, INIT_RAM_11 = 288'h0, INIT_RAM_12 = 288'h0, INIT_RAM_13 = 288'h0;
    parameter INIT_RAM_14 = 288'h0, INIT_RAM_15 = 288'h0, INIT_RAM_16 = 288'h0, INIT_RAM_17 = 288'h0;
    parameter INIT_RAM_18 = 288'h0, INIT_RAM_19 = 288'h0, INIT_RAM_1A = 288'h0, INIT_RAM_1B = 288'h0;
    parameter INIT_RAM_1C = 288'h0, INIT_RAM_1D = 288'h0, INIT_RAM_1E = 288'h0, INIT_RAM_1F = 288'h0;
    parameter INIT_RAM_20 = 288'h0, INIT_RAM_21 = 288'h0, INIT_RAM_22 = 288'h0, INIT_RAM_23 = 288'h0;
    parameter INIT_RAM_24 = 288'h0, INIT_RAM_25 = 288'h0, INIT_RAM_26 = 288'h0, INIT_RAM_27 = 288'h0;
    parameter INIT_RAM_28 = 288'h0, INIT_RAM_29 = 288'h0, INIT_RAM_2A = 288'h0, INIT_RAM_2B = 288'h0;
    parameter INIT_RAM_2C = 288'h0, INIT_RAM_2D = 288'h0, INIT_RAM_2E = 288'h0, INIT_RAM_2F = 288'h0;
    parameter INIT_RAM_30 = 288'h0, INIT_RAM_31 = 288'h0, INIT_RAM_32 = 288'h0, INIT_RAM_33 = 288'h0;
    parameter INIT_RAM_34 = 288'h0, INIT_RAM_35 = 288'h0, INIT_RAM_36 = 288'h0, INIT_RAM_37 = 288'h0;
    parameter INIT_RAM_38 = 288'h0, INIT_RAM_39 = 288'h0, INIT_RAM_3A = 288'h0, INIT_RAM_3B = 288'h0;
    parameter INIT_RAM_3C = 288'h0, INIT_RAM_3D = 288'h0, INIT_RAM_3E = 288'h0, INIT_RAM_3F = 288'h0;
    wire [35:0] out;
    assign DO = out[35:0];
    tritape_gowin_bsram #(.UNIT(9), .WIDTH_A(BIT_WIDTH), .WIDTH_B(BIT_WIDTH), .INIT({INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38, INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30, INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08, INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00})) ram (
        .CLKA(CLK), .CEA(CE & BLKSEL == BLK_SEL), .WEA(WRE), .RSTA(RESET), .ADA(AD), .DIA(DI), .DOA(out),
        .CLKB(CLK), .CEB(1'b0), .WEB(1'b0), .RSTB(1'b0), .ADB(14'h0), .DIB(36'h0), .DOB()
    );
endmodule

// Multiplier without registers, as Yosys maps `$mul` to it.
module MULT9X9(
    input CLK, CE, RESET, input [8:0] A, B, SIA, SIB, input ASIGN, BSIGN, ASEL, BSEL, output [17:0] DOUT,
    output [8:0] SOA, SOB
);
    parameter AREG = 1'b0, BREG = 1'b0, OUT_REG = 1'b0, PIPE_REG = 1'b0, ASIGN_REG = 1'b0, BSIGN_REG = 1'b0, SOA_REG = 1'b0;
    parameter MULT_RESET_MODE = "SYNC";
    wire signed [9:0] a = {ASIGN & A[8], A}, b = {BSIGN & B[8], B};
    wire signed [19:0] product = a * b;
    assign DOUT = product[17:0];
endmodule

// Multiplier without registers, as Yosys maps `$mul` to it.
module MULT18X18(
    input CLK, CE, RESET, input [17:0] A, B, SIA, SIB, input ASIGN, BSIGN, ASEL, BSEL, output [35:0] DOUT,
    output [17:0] SOA, SOB
);
    parameter AREG = 1'b0, BREG = 1'b0, OUT_REG = 1'b0, PIPE_REG = 1'b0, ASIGN_REG = 1'b0, BSIGN_REG = 1'b0, SOA_REG = 1'b0;
    parameter MULT_RESET_MODE = "SYNC";
    wire signed [18:0] a = {ASIGN & A[17], A}, b = {BSIGN & B[17], B};
    wire signed [37:0] product = a * b;
    assign DOUT = product[35:0];
endmodule

// PLL: the simulated clock is the one that it makes, so it passes its input on, locked from the start.
module rPLL(
    input CLKIN, CLKFB, RESET, RESET_P, input [5:0] FBDSEL, IDSEL, ODSEL, input [3:0] DUTYDA, PSDA, FDLY,
    output CLKOUT, LOCK, CLKOUTP, CLKOUTD, CLKOUTD3
);
    parameter FCLKIN = "100.0", DEVICE = "", DYN_IDIV_SEL = "false", IDIV_SEL = 0, DYN_FBDIV_SEL = "false", FBDIV_SEL = 0;
    parameter DYN_ODIV_SEL = "false", ODIV_SEL = 8, PSDA_SEL = "0000", DYN_DA_EN = "false", DUTYDA_SEL = "1000", CLKFB_SEL = "internal";
    parameter CLKOUT_FT_DIR = 1'b1, CLKOUTP_FT_DIR = 1'b1, CLKOUT_DLY_STEP = 0, CLKOUTP_DLY_STEP = 0, CLKOUT_BYPASS = "false";
    parameter CLKOUTP_BYPASS = "false", CLKOUTD_BYPASS = "false", DYN_SDIV_SEL = 2, CLKOUTD_SRC = "CLKOUT", CLKOUTD3_SRC = "CLKOUT";
    assign {CLKOUT, CLKOUTP, CLKOUTD, CLKOUTD3} = {4{CLKIN}};
    assign LOCK = 1;
endmodule

// An adder as nextpnr places it: the LUT says whether the carry passes, and its lower four bits what comes out where it does not.
module tritape_gowin_alu(input I0, I1, I2, I3, CIN, output SUM, COUT);
    parameter [15:0] LUT = 0;
    wire pass = LUT[{I3, I2, I1, I0}];
    assign SUM = pass ^ CIN;
    assign COUT = pass ? CIN : LUT[{2'b00, I1, I0}];
endmodule

module GOWIN_GND(output G);
    assign G = 0;
endmodule

module GOWIN_VCC(output V);
    assign V = 1;
endmodule
