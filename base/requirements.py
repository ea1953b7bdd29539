"""Which packages this one needs, by extra, and what is wrong with them: for `tritape doctor`."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib

from tritape.base.package import PACKAGE


def requirements() -> dict[str, list[str]]:
    """What the package needs, by extra, and `""` for what every use needs. From the clone's pyproject.toml, else from what is
    installed."""
    project = PACKAGE.resolve().parent / "pyproject.toml"
    if project.is_file():
        text = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return {"": text["dependencies"], **text.get("optional-dependencies", {})}
    found: dict[str, list[str]] = {}
    try:
        entries = importlib.metadata.requires("tritape") or []
    except importlib.metadata.PackageNotFoundError:
        entries = []
    for entry in entries:
        name, _, marker = entry.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
        found.setdefault(extra[1] if extra else "", []).append(name.strip())
    return found


def lacking(entry: str) -> str | None:
    """What is wrong with a requirement such as `numpy>=1.26,<3`; None if it is there."""
    found = re.match(r"\s*([\w.-]+)(?:\[[^]]*\])?\s*(.*)", entry)
    assert found is not None
    name, limits = found[1], found[2]
    if name == "tritape":
        return None
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"no {name}"
    for limit in filter(None, limits.split(",")):
        relation, wanted = re.match(r"\s*([<>=!~]+)\s*(\S+)", limit).groups()  # type: ignore[union-attr]
        have, least = _numbers(version), _numbers(wanted)
        if (
            (relation == ">=" and have < least)
            or (relation == "<" and have >= least)
            or (relation == "==" and have != least)
        ):
            return f"{name} {version} instead of {relation}{wanted}"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """A version as numbers, without the zeros at its end."""
    numbers = [int(part) for part in re.findall(r"\d+", version.split("+")[0].split("rc")[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
