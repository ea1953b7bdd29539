"""What a command needs beyond the base installation: the extras of `pip install`, and the error that names the right one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from tritape.base.errors import TritapeError

BOARD_TOOLS = ("yowasp-nextpnr", "yowasp-ecppack", "yowasp-icepack", "apycula", "gowin_pack")
"""How the tools and packages of place and route begin; Yosys is in the base installation."""


def missing(what: str, extra: str) -> TritapeError:
    """The error for a package that an extra of this package brings."""
    return TritapeError(f"{what} must be installed, not missing; run: pip install 'tritape[{extra}]'")


def missing_tool(tool: str) -> TritapeError:
    """The error for a tool of a build, or the package that brings it."""
    if tool.startswith(BOARD_TOOLS):
        return missing(tool, "boards")
    return TritapeError(f"{tool} must be installed beside Python, not missing; run: pip install {tool}")


def require(name: str, module: str) -> None:
    """Raise TritapeError unless the module that the extra called `name` brings is there: before long work that ends with it."""
    if find_spec(module) is None:
        raise missing(module, name)


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """A `with` block of imports that the extra called `name` brings. Raises TritapeError where `what` is not installed."""
    try:
        yield
    except ImportError:
        raise missing(what, name) from None
