"""A transport by the name of its port."""

from __future__ import annotations

from tritape.host.transport import Transport


def open_port(port: str, baud: int) -> Transport:
    """`uio:NAME` is a `UioTransport`, everything else a `SerialTransport` at `baud`. Raises their TritapeError."""
    from tritape.host.transport.serial import SerialTransport
    from tritape.host.transport.uio import PREFIX, UioTransport

    if port.startswith(PREFIX):
        return UioTransport(port.removeprefix(PREFIX))
    return SerialTransport(port, baud)
