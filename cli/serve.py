"""`tritape serve`: OpenAI's completions interface in front of a board."""

from __future__ import annotations

from typing import Annotated

import typer

from tritape.base.errors import TritapeError
from tritape.cli import app
from tritape.cli.common import console
from tritape.cli.device import Baud, BoardName, ModelPath, Port, find_model, is_greedy, load, open_device


@app.command()
def serve(
    port: Port,
    model: ModelPath = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="TCP port to listen on.")] = 8000,
    board: BoardName = None,
    baud: Baud = None,
) -> None:
    """Serve completions, streaming included, to any client of OpenAI's interface. Ends when the board goes away."""
    try:
        import uvicorn

        from tritape.host.server import make_app
    except ImportError:
        raise TritapeError(
            "fastapi and uvicorn must be installed, not missing; run: pip install 'tritape[serve]'"
        ) from None
    source = find_model(model, board)
    with open_device(port, board, baud) as device:
        load(device, source)
        lost = False

        def eject() -> None:
            nonlocal lost
            lost = server.should_exit = True

        assert device.header is not None
        made = make_app(
            device,
            source.codec,
            source.name,
            vocab_size=device.header.vocab,
            logit_fraction=device.header.logit_fraction,
            eject=eject,
        )
        server = uvicorn.Server(uvicorn.Config(made, host=host, port=http_port, log_level="warning"))
        if is_greedy(device):
            console.print("this bitstream is greedy: temperature and seed are ignored")
        console.print(f"http://{host}:{http_port}/v1 serves {source.name}; Ctrl-C ends", soft_wrap=True)
        server.run()
    if lost:
        raise TritapeError(f"{port}: device must answer, not be gone; connect it and start again")
