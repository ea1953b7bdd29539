"""A transport by the name of its port."""

from __future__ import annotations

from tritape.host.transport import UIO, Transport


def open_port(port: str, baud: int) -> Transport:
    """`uio:NAME` is a `UIOTransport`, everything else a `SerialTransport` at `baud`. Raises their TritapeError."""
    if port.startswith(UIO):
        # Linux only.
        from tritape.host.transport.uio import UIOTransport

        return UIOTransport(port.removeprefix(UIO))
    from tritape.host.transport.serial import SerialTransport

    return SerialTransport(port, baud)
