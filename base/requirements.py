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
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return "no packaging"
    wanted = Requirement(entry)
    if wanted.name == "tritape":
        return None
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return f"no {wanted.name}"
    wrong = [str(limit) for limit in wanted.specifier if not limit.contains(version, prereleases=True)]
    return f"{wanted.name} {version} instead of {', '.join(wrong)}" if wrong else None
