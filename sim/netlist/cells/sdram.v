// An SDR SDRAM chip as far as a controller sees it: commands at the clock's falling edge, that is, within the cycle in which
// they left the FPGA, as the board's late clock does. Bursts of one word; latency as its mode register says; no timing is
// checked. It holds 512 columns of 4 banks of 64 rows; what is above repeats.
// Source: data sheets of the boards' chips (MT48LC16M16, W9825G6KH6, IS42S16160), which agree in this.
module sdram_chip(
    input clk, cs_n, ras_n, cas_n, we_n,
    input [1:0] ba, dqm,
    input [12:0] a,
    inout [15:0] dq
);
    reg [15:0] cells [0:131071];
    reg [5:0] row [0:3];
    reg [2:0] latency = 2;
    reg [15:0] data [0:2];
    reg [2:0] due = 0;
    wire [16:0] place = {row[ba], ba, a[8:0]};
    wire [2:0] command = {ras_n, cas_n, we_n};
    wire out = latency == 3 ? due[2] : due[1];
    wire [15:0] word = latency == 3 ? data[2] : data[1];
    genvar line;
    generate  // bit by bit, as the pins do: Yosys joins drivers of equal width only
        for (line = 0; line < 16; line = line + 1) assign dq[line] = out ? word[line] : 1'bz;
    endgenerate
    always @(negedge clk) begin
        due <= {due[1:0], 1'b0};
        data[1] <= data[0];
        data[2] <= data[1];
        if (!cs_n) case (command)
            3'b000: begin
                latency <= a[6:4];
                if (a[2:0] != 0) $display("sdram_chip: bursts must be of one word, not %0d", a[2:0]);
            end
            3'b011: row[ba] <= a[5:0];
            3'b101: begin
                data[0] <= cells[place];
                due[0] <= 1;
            end
            3'b100: begin
                if (!dqm[0]) cells[place][7:0] <= dq[7:0];
                if (!dqm[1]) cells[place][15:8] <= dq[15:8];
            end
            default: ;
        endcase
    end
endmodule
