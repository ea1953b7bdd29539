"""`tritape serve`: OpenAI's interface, and a page for people, in front of a board."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from tritape.base.errors import TritapeError
from tritape.cli import app
from tritape.cli.common import IgnoreEOS, console
from tritape.cli.device import (
    Baud,
    BoardName,
    DraftName,
    ModelPath,
    draft_for,
    find_model,
    is_greedy,
    load,
    open_device,
)
from tritape.host.device import Device
from tritape.host.power import SOURCES, open_sensor
from tritape.model.open import OpenModel
from tritape.model.tokenizer import without_ends

if TYPE_CHECKING:
    from tritape.host.server import Served

_PATIENCE_S = 3  # for clients at the end


@app.command()
def serve(
    port: Annotated[
        list[str],
        typer.Option(
            "--port",
            "-p",
            help="Port of a board, as for `tritape run`; several times for several boards behind one server.",
        ),
    ],
    model: ModelPath = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port to listen on; 0: any.")] = 8000,
    cors: Annotated[
        list[str] | None,
        typer.Option(help="Origin whose web pages may ask, such as https://example.org, or *; may be repeated."),
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more are sent away with 429.")] = 64,
    ignore_eos: IgnoreEOS = False,
    power: Annotated[str | None, typer.Option(help=f"Sensor for joules: {'; '.join(SOURCES.values())}.")] = None,
    draft: DraftName = None,
    board: BoardName = None,
    baud: Baud = None,
) -> None:
    """Serve completions and chats to any client of OpenAI's interface, and a page to browsers. Ends when the last board is
    gone."""
    import uvicorn  # here, for it takes a while

    from tritape.host.server import Backend, make_app

    lost: dict[str, TritapeError] = {}

    def backend(port: str, device: Device, source: OpenModel) -> Backend:
        def recover() -> None:
            device.restart()
            device.load_model(source)

        def eject(error: TritapeError) -> None:
            lost[port] = error
            server.should_exit = len(lost) == len(ports)
            if not server.should_exit:
                console.print(f"{port}: {error}; its requests go on elsewhere", soft_wrap=True)

        return Backend(device, recover, eject)

    ports = list(dict.fromkeys(port))
    with listener(host, http_port) as taken:
        source = find_model(model, board)
        sensor = None if power is None else open_sensor(power)
        with ExitStack() as stack:
            guesses = draft_for(draft, source)
            devices = [stack.enter_context(open_device(name, board, baud)) for name in ports]
            for device in devices:
                load(device, source)
                device.speculate(guesses)
            served = _served(source, devices, ignore_eos)
            backends = [backend(name, device, source) for name, device in zip(ports, devices, strict=True)]
            made = make_app(backends, served, queue=queue, cors=cors or (), sensor=sensor)
            server = uvicorn.Server(uvicorn.Config(made, log_level="warning", timeout_graceful_shutdown=_PATIENCE_S))
            address = f"http://{f'[{host}]' if ':' in host else host}:{taken.getsockname()[1]}"
            console.print(f"{address}/v1 serves {source.name}, {address} is a page; Ctrl-C ends", soft_wrap=True)
            server.run(sockets=[taken])
    if len(lost) == len(ports):
        raise TritapeError("; ".join(f"{name}: {error}" for name, error in lost.items()))


def _served(source: OpenModel, devices: list[Device], ignore_eos: bool) -> Served:
    """What the devices offer together. Raises TritapeError for devices with one slot beside others with several."""
    from tritape.host.server import Served

    if len({device.slots is None for device in devices}) > 1:
        raise TritapeError(
            "devices behind one server must all have one slot, or all several, not both; serve them apart from each other"
        )
    header = devices[0].header
    assert header is not None
    return Served(
        source.name,
        without_ends(source.codec) if ignore_eos else source.codec,
        header.vocab,
        header.logit_fraction,
        source.sha256,
        slots=sum(device.identity.batch for device in devices),
        sampler=not any(map(is_greedy, devices)),
    )


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens already, for a port that is only bound another program may take while the tape is loaded: who
    connects until then waits. Raises TritapeError when that cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise TritapeError(
            f"host must be an address of this machine, not {host!r} ({error.strerror}); choose another"
        ) from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen()
    except OSError as error:
        made.close()
        raise TritapeError(
            f"port {port} of {host} must be free, not taken ({error.strerror}); choose another with --http-port"
        ) from None
    return made
