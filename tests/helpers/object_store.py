"""A real S3 over HTTP on loopback, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SERVE = (
    "from moto.server import ThreadedMotoServer as S; import sys\n"
    "s = S(ip_address='127.0.0.1', port=0, verbose=False); s.start()\n"
    "print(*s.get_host_and_port(), flush=True); sys.stdin.read()"
)


@contextmanager
def served() -> Iterator[str]:
    """Address of the server, which ends with the block."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", SERVE]
    with subprocess.Popen(command, text=True, stderr=subprocess.DEVNULL, **pipes) as process:
        host, port = process.stdout.readline().split()  # type: ignore[union-attr]
        yield f"http://{host}:{port}"
        process.stdin.close()  # type: ignore[union-attr]
        process.wait(30)


def emptied(endpoint: str) -> None:
    """Leave nothing on the server but an empty bucket."""
    for path, method in (("moto-api/reset", "POST"), ("bucket", "PUT")):
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{path}", method=method))


def options_of(endpoint: str, **others: Any) -> dict[str, Any]:
    """What fsspec's plugin is given."""
    return {"key": "a", "secret": "b", "endpoint_url": endpoint, **others}


def files(options: dict[str, Any]) -> Any:
    """The bucket as others see it."""
    import s3fs

    return s3fs.S3FileSystem(**options, use_listings_cache=False)


def environment() -> dict[str, str]:
    """What a process of a script needs to import what tests do."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def die_at(name: str) -> None:
    """Kill this process when it is about to put an object whose name ends so."""
    from xharmonize._urls import Remote

    put = Remote.put

    def deadly(self: Remote, file: Any, to: str) -> None:
        if to.endswith(name):
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, file, to)

    Remote.put = deadly  # type: ignore[method-assign]
