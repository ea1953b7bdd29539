"""The one exception type that means "the input is wrong": the command line prints it as one line and exits with 2."""

from __future__ import annotations


class TritapeError(ValueError):
    """A user's mistake, reported as "X must be A, not B" with the file, tensor or port named and the cure.

    Raised by every public function of the project for bad input. Anything else that escapes is a bug in tritape.
    """
