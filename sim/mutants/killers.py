"""Which tests concern which file of `hw/`: its own first, then whole tokens of an accelerator that has it."""

from __future__ import annotations

UNITS: dict[str, str] = {
    "counters.py": "hw_counters hw_host_link",
    "exceeds.py": "hw_exceeds",
    "batch/": "hw_batch",
    "engine/activation_memory.py": "hw_engine",
    "engine/add_sub.py": "hw_engine",
    "engine/adder_tree.py": "hw_engine",
    "engine/row_accumulator.py": "hw_row_accumulator hw_engine",
    "engine/sparse": "hw_sparse_engine",
    "engine/table_engine.py": "hw_engine",
    "engine/table_filler.py": "hw_table_filler hw_engine",
    "engine/": "hw_engine hw_sparse_engine",
    "head/argmax.py": "hw_argmax hw_head",
    "head/head.py": "hw_head",
    "head/row_serialiser.py": "hw_row_serialiser hw_head",
    "head/sampler.py": "hw_sampler hw_head",
    "link/axi_lite.py": "hw_axi_lite",
    "link/autoboot.py": "hw_autoboot",
    "link/byte_crc.py": "hw_frame_port",
    "link/cobs.py": "hw_frame_port",
    "link/frame_port.py": "hw_frame_port hw_host_link",
    "link/step_runner.py": "hw_batch_link",
    "link/uart.py": "hw_uart",
    "link/": "hw_host_link",
    "memory/attach.py": "hw_attach",
    "memory/axi_writer.py": "hw_axi_faults hw_memory_bounds hw_axi",
    "memory/axi": "hw_axi hw_axi_faults",
    "memory/flash_start.py": "hw_autoboot",
    "memory/gearbox.py": "hw_gearbox",
    "memory/litedram.py": "hw_litedram",
    "memory/onchip.py": "hw_onchip hw_memory_bounds",
    "memory/pages.py": "hw_pages hw_memory_bounds",
    "memory/planner.py": "hw_planner",
    "memory/qspi.py": "hw_qspi hw_memory_bounds",
    "memory/register_window.py": "hw_register_window",
    "memory/signature.py": "hw_memory_bounds hw_axi_faults",
    "memory/spram.py": "hw_spram hw_memory_bounds",
    "memory/wishbone_script.py": "hw_litedram",
    "memory/word_bytes.py": "hw_planner hw_axi",
    "mixer/channel_mixer.py": "hw_channel_mixer",
    "mixer/mlgru.py": "hw_mlgru hw_batch",
    "mixer/residual.py": "hw_residual",
    "mixer/silu.py": "hw_silu hw_channel_mixer",
    "mixer/state_memory.py": "hw_mlgru",
    "norm/dequantiser.py": "hw_dequantiser",
    "norm/gain_memory.py": "hw_gain_memory",
    "norm/gains.py": "hw_gains hw_rmsnorm",
    "norm/quantiser.py": "hw_quantiser hw_rmsnorm",
    "norm/rescale.py": "hw_rescale",
    "norm/rmsnorm.py": "hw_rmsnorm",
    "norm/scalar.py": "hw_scalar",
    "norm/statistics.py": "hw_statistics hw_rmsnorm",
    "norm/vector_scalar.py": "hw_vector_scalar",
    "stream/logit_tap.py": "hw_logit_tap",
    "stream/skid.py": "hw_rescale",
    "stream/forward.py": "hw_register_window",
    "stream/": "hw_batch hw_dequantiser",
    "tape/crc.py": "hw_crc",
    "tape/embedding.py": "hw_embedding",
    "tape/reader.py": "hw_reader hw_batch",
    "tape/": "hw_sequencer hw_sequencer_slots",
    "vector/alu.py": "hw_alu",
    "vector/program.py": "hw_vector",
    "vector/serial": "hw_vector",
    "vector/value_memory.py": "hw_vector",
}
"""File, or how its path begins -> names of its test files; the first that fits."""

PIPELINED = "tests/test_hw_accelerator.py::test_tokens_with_a_stalling_memory[odd-4-2-64-prompt0-2-0]"
SERIAL = "tests/test_hw_vector.py::test_two_layers_of_odd_lengths_in_several_blocks"
SERIAL_LOGITS = "tests/test_hw_vector.py::test_the_host_takes_every_logit"
SLOTS = "tests/test_sim_batch.py::test_independent_sequences"
STATES = "tests/test_sim_batch.py::test_states_are_saved_and_restored"
DAMAGE = "tests/test_sim_faults.py"
BOARD = "tests/test_sim_virtual_board.py"
AXI = "tests/test_hw_axi_tokens.py"
CAMPAIGN = "tests/test_sim_campaign.py"

WHOLE: dict[str, list[str]] = {
    "accelerator.py": ["tests/test_hw_accelerator.py", DAMAGE, CAMPAIGN],
    "exceeds.py": [PIPELINED],
    "uart_accelerator.py": ["tests/test_hw_uart.py", BOARD],
    "axi_accelerator.py": ["tests/test_hw_axi_accelerator.py", AXI],
    "standalone_accelerator.py": ["tests/test_hw_autoboot.py"],
    "onchip_accelerator.py": ["tests/test_hw_accelerator.py", BOARD],
    "batch/": [SLOTS, STATES],
    "engine/sparse": ["tests/test_sim_sparse4.py"],
    "link/step_runner.py": [SLOTS],
    "link/axi_lite.py": ["tests/test_host_uio.py"],
    "link/autoboot.py": ["tests/test_hw_autoboot.py"],
    "link/uart.py": [BOARD],
    "link/": [PIPELINED, SERIAL_LOGITS, DAMAGE],
    "memory/": [AXI, BOARD],
    "tape/": [PIPELINED, SERIAL, DAMAGE],
    "vector/lane.py": [PIPELINED],
    "vector/pipelined.py": [PIPELINED],
    "vector/": [SERIAL, SERIAL_LOGITS],
    "mixer/mlgru.py": [PIPELINED, SLOTS],
    "": [PIPELINED, SERIAL],
}
"""Whole tokens, in the same way."""


def _of(path: str, table: dict[str, str] | dict[str, list[str]]) -> list[str]:
    for start, found in table.items():
        if path.startswith(start):
            return [f"tests/test_{name}.py" for name in found.split()] if isinstance(found, str) else found
    return []


def killers(path: str) -> tuple[list[str], list[str]]:
    """Arguments of pytest for the unit tests of a file, and for whole tokens."""
    return _of(path, UNITS), _of(path, WHOLE)
