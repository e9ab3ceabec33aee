"""Print what the changelog says of a version, once all files name that version.

``python .ci/release_notes.py 0.1.0`` is what the release workflow runs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STATED = {
    "xharmonize/__init__.py": r'^__version__ = "(.+)"$',
    "CITATION.cff": r"^version: (.+)$",
}


def versions() -> dict[str, str]:
    """Return the version that each file states."""
    return {name: _found(name, pattern) for name, pattern in STATED.items()}


def notes(version: str) -> str:
    """Return the section of the changelog on a version; raise `ValueError` if there is none."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(version)}\b.*\n(?P<body>(?:(?!## ).*\n)*)", text, re.M)
    if found is None or not found["body"].strip():
        raise ValueError(f"CHANGELOG.md has no section on {version}")
    return found["body"].strip()


def _found(name: str, pattern: str) -> str:
    found = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.M)
    if found is None:
        raise ValueError(f"{name} states no version")
    return found[1]


def main(version: str) -> None:
    """Check the version, and print its notes."""
    differing = {name: stated for name, stated in versions().items() if stated != version}
    if differing:
        raise SystemExit(f"the release is {version}, but {differing}")
    print(notes(version))


if __name__ == "__main__":
    main(*sys.argv[1:])
