"""CUDA C++ compiled and launched at run time, for `decode`: NVRTC, which comes with PyTorch, and the driver, by ctypes.

No compiler, no headers and no extension module are needed. `load(file, constants, shared)` compiles a file for the current card;
`Kernel.launch` starts it with all blocks on the card at once. Raises TritapeError with the compiler's or the driver's words.
"""

from __future__ import annotations

import ctypes
import functools
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import torch

from tritape.base.errors import TritapeError

MAX_SHARED, SHARED_LIMIT = 8, 97
"""The driver's numbers: a function's attribute for dynamic shared memory, a device's for the most of a block."""


class Kernel:
    """The function `decode` of a compiled file, with `shared` bytes of dynamic shared memory a block."""

    def __init__(self, image: bytes, shared: int) -> None:
        self._module, self._function, self._shared = ctypes.c_void_p(), ctypes.c_void_p(), shared
        _check(_driver().cuModuleLoadData(ctypes.byref(self._module), image))
        _check(_driver().cuModuleGetFunction(ctypes.byref(self._function), self._module, b"decode"))
        _check(_driver().cuFuncSetAttribute(self._function, MAX_SHARED, shared))

    def launch(self, blocks: int, threads: int, parameters: ctypes.Structure) -> None:
        """Start it on PyTorch's current stream; all blocks run at once (a cooperative launch)."""
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(parameters))
        grid = (blocks, 1, 1, threads, 1, 1, self._shared)
        _check(_driver().cuLaunchCooperativeKernel(self._function, *grid, stream, pointers))


def shared_limit() -> int:
    """The most bytes of shared memory that a block may have on the current card."""
    value = ctypes.c_int()
    torch.cuda.current_stream()  # the driver is ready after this
    _check(_driver().cuDeviceGetAttribute(ctypes.byref(value), SHARED_LIMIT, torch.cuda.current_device()))
    return value.value


def load(path: Path, constants: Mapping[str, int], shared: int) -> Kernel:
    """The kernel of `path`, which may include the headers beside it (*.h), with each constant defined, for the current card.

    It takes seconds to compile and is then kept.
    """
    return _load(path, tuple(sorted(constants.items())), shared, torch.cuda.get_device_capability())


@functools.cache
def _load(path: Path, constants: tuple[tuple[str, int], ...], shared: int, capability: tuple[int, int]) -> Kernel:
    compiler, program = _library("nvrtc"), ctypes.c_void_p()
    compiler.nvrtcGetErrorString.restype = ctypes.c_char_p
    options = [f"--gpu-architecture=sm_{capability[0]}{capability[1]}", "--std=c++17"]
    options += [f"-D{name}={value}" for name, value in constants]
    headers = sorted(path.parent.glob("*.h"))
    compiler.nvrtcCreateProgram(
        ctypes.byref(program), path.read_bytes(), path.name.encode(),
        len(headers), _strings(*(file.read_bytes() for file in headers)), _strings(*(file.name.encode() for file in headers)),
    )  # fmt: skip
    status = compiler.nvrtcCompileProgram(program, len(options), _strings(*(option.encode() for option in options)))
    size = ctypes.c_size_t()
    if status:
        compiler.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        compiler.nvrtcGetProgramLog(program, log)
        reason = compiler.nvrtcGetErrorString(status).decode()
        raise TritapeError(
            f"{path.name} must compile for sm_{capability[0]}{capability[1]}: {reason}\n{log.value.decode()}"
        )
    compiler.nvrtcGetCUBINSize(program, ctypes.byref(size))
    image = ctypes.create_string_buffer(size.value)
    compiler.nvrtcGetCUBIN(program, image)
    compiler.nvrtcDestroyProgram(ctypes.byref(program))
    return Kernel(image.raw, shared)


def _strings(*texts: bytes) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(texts))(*texts)


@functools.cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _library(name: str) -> ctypes.CDLL:
    """A library of the CUDA version that PyTorch was built with: the system's, else that of PyTorch's packages."""
    file = f"lib{name}.so.{str(torch.version.cuda).partition('.')[0]}"
    folder = Path(sysconfig.get_path("purelib")) / "nvidia"
    for place in (file, *map(str, sorted(folder.glob(f"*/lib/{file}")))):
        try:
            return ctypes.CDLL(place)
        except OSError:
            continue
    raise TritapeError(f"{file} must be installed, not absent; it comes with PyTorch's CUDA builds")


def _check(status: int) -> None:
    if status:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(status, ctypes.byref(text))
        raise TritapeError(
            f"the driver must accept the kernel, not answer {(text.value or b'?').decode()!r} ({status})"
        )
