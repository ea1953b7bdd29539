"""`tritape serve`: OpenAI's interface, and a page for people, in front of a board."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from tritape.base.errors import TritapeError
from tritape.cli import app
from tritape.cli.common import IgnoreEOS, console
from tritape.cli.device import Baud, BoardName, ModelPath, Port, find_model, is_greedy, load, open_device
from tritape.host.power import SOURCES, open_sensor
from tritape.model.tokenizer import without_ends

_PATIENCE_S = 3  # for clients at the end


@app.command()
def serve(
    port: Port,
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
    board: BoardName = None,
    baud: Baud = None,
) -> None:
    """Serve completions and chats to any client of OpenAI's interface, and a page to browsers. Ends when the board goes away."""
    import uvicorn  # here, for it takes a while

    from tritape.host.server import Served, make_app

    lost: list[TritapeError] = []

    def eject(error: TritapeError) -> None:
        lost.append(error)
        server.should_exit = True

    with _listener(host, http_port) as listener:
        source = find_model(model, board)
        sensor = None if power is None else open_sensor(power)
        with open_device(port, board, baud) as device:
            load(device, source)
            assert device.header is not None

            def recover() -> None:
                device.restart()
                device.load_model(source)

            served = Served(
                source.name,
                without_ends(source.codec) if ignore_eos else source.codec,
                device.header.vocab,
                device.header.logit_fraction,
                source.sha256,
                slots=device.identity.batch,
                sampler=not is_greedy(device),
            )
            made = make_app(device, served, queue=queue, cors=cors or (), sensor=sensor, recover=recover, eject=eject)
            server = uvicorn.Server(uvicorn.Config(made, log_level="warning", timeout_graceful_shutdown=_PATIENCE_S))
            address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
            console.print(f"{address}/v1 serves {source.name}, {address} is a page; Ctrl-C ends", soft_wrap=True)
            server.run(sockets=[listener])
    if lost:
        raise TritapeError(f"{port}: {lost[0]}")


def _listener(host: str, port: int) -> socket.socket:
    """A socket bound to an address; it does not listen yet. Raises TritapeError when that cannot be, before a tape is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise TritapeError(
            f"host must be an address of this machine, not {host!r} ({error.strerror}); choose another"
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise TritapeError(
            f"port {port} of {host} must be free, not taken ({error.strerror}); choose another with --http-port"
        ) from None
    return listener
