"""The commands for a board, on a virtual one: run, chat, bench, serve, and what they refuse."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from small_board import SMALL, golden
from typer.testing import CliRunner

from tritape import cli
from tritape.base.errors import TritapeError
from tritape.cli.device import find_model
from tritape.model.checkpoint import load_checkpoint, random_checkpoint, save_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.tape.assembler import pack
from tritape.model.tokenizer import ByteTokenizer
from tritape.sim.virtual_board import VirtualBoard

pytestmark = [pytest.mark.slow, pytest.mark.optimised]
PROMPT = "Emma was"
CODEC = ByteTokenizer()
COMMAND = (sys.executable, "-c", "import tritape.cli; tritape.cli.main()")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A checkpoint folder without a tokenizer: its tokens are bytes."""
    folder = tmp_path_factory.mktemp("model") / "small"
    save_checkpoint(random_checkpoint(ModelConfig(256, 20, 2, 24), seed=3), folder)
    return folder


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    with VirtualBoard(SMALL) as virtual:
        yield virtual.port


def tritape(*arguments: object, text: str = "") -> str:
    """Standard output of a command that must succeed."""
    cli.register()
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=text)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def expected(folder: Path, prompt: str, count: int) -> list[int]:
    return golden(quantise_model(load_checkpoint(folder)), CODEC.encode(prompt), count)


def test_run(port, model, tmp_path):
    """From a checkpoint folder, then from a tape file of the same model."""
    tape, result = tmp_path / "m.tape", tmp_path / "run.json"
    pack(quantise_model(load_checkpoint(model)), tape, SMALL.config.groups, SMALL.config.max_rows)
    for source in (model, tape):
        said = tritape("run", "--port", port, "--model", source, "-n", 20, "--json", result, PROMPT)
        measured = json.loads(result.read_text())
        assert measured["token_ids"] == expected(model, PROMPT, 20)
        assert said == PROMPT + CODEC.decode(measured["token_ids"]) + "\n"
        assert measured["text"] == CODEC.decode(measured["token_ids"])
        assert measured["crc_errors"] == 0


def test_json_alone_on_the_standard_output(port, model):
    """The text then goes where tables go."""
    done = subprocess.run(
        [*COMMAND, "run", "--port", port, "--model", str(model), "-n", "5", "--json", "/dev/stdout", PROMPT],
        capture_output=True,
        check=True,
    )
    text = json.loads(done.stdout)["text"]
    assert text == CODEC.decode(expected(model, PROMPT, 5))
    assert done.stderr.decode().splitlines()[-1] == PROMPT + text


def test_chat_goes_on_in_a_file(port, model, tmp_path):
    """A conversation of two commands equals the same turns in one."""
    common = ("chat", "--port", port, "--model", model, "-n", 12, "-t", 0)
    whole = tritape(*common, text="one\ntwo\n/quit\n")
    talk = tmp_path / "talk.json"
    first = tritape(*common, "-c", talk, text="one\n")
    before = json.loads(talk.read_text())["text"]
    second = tritape(*common, "-c", talk, text="/nonsense\ntwo\n")
    assert second.startswith(before), "the text so far is shown"
    assert whole == first + second.removeprefix(before)
    assert json.loads(talk.read_text())["text"] == f"{before}two{second.removeprefix(before)[:-1]}"


def test_bench_board_and_cpu(port, model, tmp_path):
    """Both choose the same tokens; energy comes from a meter's file of 2.5 W, as joules a token."""
    meter, result, plot = tmp_path / "meter.csv", tmp_path / "bench.json", tmp_path / "power.png"
    now = time.time()
    meter.write_text("time,watts\n" + "".join(f"{now + step},2.5\n" for step in range(-5, 600)))
    tritape(
        "bench", "--port", port, "--cpu", "--model", model, "-n", 12, "--generations", 3, "--power", f"csv:{meter}",
        "--idle", 0.2, "--plot", plot, "--json", result,
    )  # fmt: skip
    measured = json.loads(result.read_text())
    assert measured["same_tokens"] is True
    board = measured["board"]
    assert board["watts"] == pytest.approx(2.5)
    assert board["watts_idle"] == pytest.approx(2.5)
    assert board["joules_per_token_above_idle"] == pytest.approx(0, abs=1e-6)
    assert 0 < board["joules_per_token"] < 2.5
    assert board["crc_errors"] == 0
    assert measured["cpu"]["tokens_per_second"] > board["tokens_per_second"] > 0
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench"], "something must be measured, not nothing; give --port, --cpu or both"),
        (["bench", "--cpu", "--plot", "x.png"], "a plot must have a power source, not none; add --power"),
        (["bench", "--cpu", "--idle", "-1"], "idle must be from 0 to 3600 seconds, not -1.0"),
        (["bench", "--cpu", "-n", "1"], "tokens must be at least 2, not 1"),
        (["bench", "--cpu", "--cpu-power", "magic"], "power source must be one of"),
        (["run", "-p", "/dev/ttyNONE", "x"], "/dev/ttyNONE: port must exist, not be missing; plug the board in"),
        (["run", "-p", "/dev/ttyNONE", "x", "-n", "0"], "tokens must be at least 1, not 0"),
        (["run", "-p", "/dev/ttyNONE", ""], "prompt must have at least one token"),
        (["run", "-p", "/dev/ttyNONE", "x", "-b", "toaster"], "board must be one of .*, not 'toaster'"),
        (["board", "toaster", "--pty"], "board must be one of"),
        (["board", "ulx3s-85f"], "a virtual board must be offered somewhere, not nowhere; add --pty"),
        (["program", "ulx3s-85f", "none.zip"], "none.zip: archive must exist, not be missing"),
        (["verify", "icebreaker", "--brief", "--model", "nano"], "model must be left out beside --brief, not '.*nano'"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TritapeError, match=message) as caught:
        tritape(*arguments)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_another_board_is_refused(port):
    with pytest.raises(
        TritapeError, match=r"configuration of the device must be \w{16} \(ulx3s-85f\), not \w{16}; run: tri"
    ):
        tritape("run", "--port", port, "--board", "ulx3s-85f", PROMPT)


def test_models_that_do_not_fit(port, model, tmp_path):
    """The embedded model is too large; a tape of another G, or cut short, is refused."""
    with pytest.raises(TritapeError, match="hidden size must be at most 32 on this bitstream, not 130"):
        tritape("run", "--port", port, PROMPT)
    tape = tmp_path / "m.tape"
    pack(quantise_model(load_checkpoint(model)), tape, 8, 128)
    with pytest.raises(TritapeError, match="groups of the tape must be 4, not 8; pack it with --groups 4"):
        tritape("run", "--port", port, "--model", tape, PROMPT)
    tape.write_bytes(tape.read_bytes()[:-50])
    with pytest.raises(TritapeError, match=r"file must have \d+ bytes, not \d+; it is truncated"):
        tritape("run", "--port", port, "--model", tape, PROMPT)


def test_serve(port, model):
    """The whole command in a process of its own, asked by the official client; Ctrl-C ends it cleanly."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", port, "--model", str(model), "--http-port", str(number)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with openai.OpenAI(
            base_url=f"http://127.0.0.1:{number}/v1", api_key="none", timeout=60, max_retries=8
        ) as client:
            name = next(iter(client.models.list())).id
            stream = client.completions.create(model=name, prompt=PROMPT, max_tokens=20, temperature=0, stream=True)
            text = "".join(event.choices[0].text for event in stream)
        assert text == CODEC.decode(expected(model, PROMPT, 20))
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode in (0, -signal.SIGINT, 130), said
    assert "Traceback" not in said
    assert re.search(rf"http://127.0.0.1:{number}/v1 serves small", said)


@pytest.mark.parametrize(("board", "name"), [(None, "small"), ("icebreaker", "tiny"), ("ulx3s-25f", "nano")])
def test_a_board_has_its_model(board: str | None, name: str) -> None:
    """Without --model: the one that fits the board that was named."""
    assert find_model(None, board).name == name


def test_memory_test(port, model, tmp_path):
    """Every word of a part of the memory; then a tape is loaded again and runs."""
    result = tmp_path / "memory.json"
    said = tritape("memory-test", "--port", port, "--first", 100, "--words", 60, "--json", result)
    measured = json.loads(result.read_text())
    assert (measured["words"], measured["word_bytes"], set(measured["errors"].values())) == (60, 4, {0})
    assert "walking one" in said
    assert tritape("run", "--port", port, "--model", model, "-n", 3, PROMPT).startswith(PROMPT)
