"""`rustac serve`: a STAC API that is not ours, as a second peer."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


def collection(name: str) -> dict:
    """Return the least a STAC collection has to say."""
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": name,
        "description": name,
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2018-01-01T00:00:00Z", None]]},
        },
        "links": [],
    }


@contextmanager
def rustac_serve(items: Sequence[dict], folder: Path) -> Iterator[str]:
    """Serve items on a free port of the loopback interface while the block runs."""
    command = shutil.which("rustac", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the rustac command is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [command, "serve", "--addr", address, *_write(items, folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(address, process)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)


def _write(items: Sequence[dict], folder: Path) -> list[str]:
    """Write one file per collection and one with its items; return their paths."""
    paths = []
    for name in sorted({item["collection"] for item in items}):
        members = [item for item in items if item["collection"] == name]
        documents = {
            f"{name}.json": collection(name),
            f"{name}-items.json": {"type": "FeatureCollection", "features": members},
        }
        for file, document in documents.items():
            (folder / file).write_text(json.dumps(document))
            paths.append(str(folder / file))
    return paths


def _wait_for(address: str, process: subprocess.Popen) -> None:
    host, port = address.split(":")
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(f"rustac serve ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.1)
    pytest.fail("rustac serve did not start")
