"""`.ci/requirements.txt`, what CI installs: it has what pyproject.toml wants, each with hashes, and no address."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tritape.base.package import PACKAGE

ROOT = PACKAGE.parent
LOCK = (ROOT / ".ci/requirements.txt").read_text()


def wanted(extras: list[str]) -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    for requirement in map(Requirement, texts):
        if requirement.name == "tritape":
            yield from wanted(sorted(requirement.extras))
        elif requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def test_everything_that_is_wanted_is_locked() -> None:
    locked = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", LOCK, re.M))
    for requirement in wanted(["test", "dev"]):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement}; run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement}, not {version}; run `make lock`"


def test_every_package_has_hashes_and_none_an_address() -> None:
    for block in re.split(r"\n(?=\S)", LOCK.strip()):
        assert re.fullmatch(r"[\w.-]+==\S+( ; [^\n\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", block), block
    assert "://" not in LOCK
