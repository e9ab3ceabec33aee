"""Writing to an object store: bytes through the client, and speed by number of workers.

Run ``python benchmarks/object_storage.py`` (Linux). A cube whose pixels the workers make is written
to one S3 server on loopback (moto, in a process of its own): by URL, into Icechunk, and by plain
``xarray.to_zarr``. Each write is a process of its own, a client of the same `LocalCluster`, which
has written two dates before. The floor puts as many objects of the same size by boto3 and computes
nothing.

Bodies of requests and answers are counted by the server, which looks up in ``/proc`` whose
connection it is; what goes between client and scheduler is what the kernel says of the client's
connections (``TCP_INFO``).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

N_TIMES, SIZE, REPEATS = 16, 1024, 3
KINDS = {
    "url": "to_zarr by URL",
    "icechunk": "to_zarr into Icechunk",
    "xarray": "xarray's to_zarr by URL",
}
KEYS = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}


# The server.


def serve() -> None:
    """Serve S3 on a free port until standard input ends."""
    from threading import Thread

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


def counting(app: Callable[..., Any]) -> Callable[..., Any]:
    """Count bodies by process; ``/-/counts?1,2`` tells, forgets, and names processes from now."""
    pids: list[int] = []
    counts: Counter[str] = Counter()

    def counted(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] == "/-/counts":
            told = json.dumps(counts).encode()
            counts.clear()
            pids[:] = [int(n) for n in environ["QUERY_STRING"].split(",") if n]
            start("200 OK", [("Content-Length", str(len(told)))])
            return [told]
        who = owner(int(environ["REMOTE_PORT"]), pids)
        counts[f"{who} requests"] += 1
        counts[f"{who} bytes"] += int(environ.get("CONTENT_LENGTH") or 0)
        answer = app(environ, start)
        if isinstance(answer, list):
            counts[f"{who} bytes"] += sum(map(len, answer))
            return answer
        return passed(answer, counts, who)

    return counted


def passed(answer: Any, counts: Counter[str], who: str) -> Iterator[bytes]:
    for piece in answer:
        counts[f"{who} bytes"] += len(piece)
        yield piece


def owner(port: int, pids: list[int], tries: int = 5) -> str:
    """Which of some processes has the connection from a port."""
    inode = next((i for at, i in connections() if at == port), None)
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(handle) == f"socket:[{inode}]":
                    return str(pid)
            except OSError:  # closed meanwhile
                continue
    # The kernel's table is not read at one moment, and may lack a line.
    return owner(port, pids, tries - 1) if tries > 1 else "others"


def connections() -> Iterator[tuple[int, str]]:
    """Local port and inode of each TCP connection."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            yield int(columns[1].rpartition(":")[2], 16), columns[9]


def ask(endpoint: str, path: str, method: str = "GET") -> bytes:
    request = urllib.request.Request(f"{endpoint}{path}", method=method)
    with urllib.request.urlopen(request) as answer:
        return bytes(answer.read())


# A client.


def place_of(kind: str, endpoint: str, name: str) -> tuple[Any, dict[str, Any]]:
    if kind != "icechunk":
        options = {"key": "a", "secret": "b", "endpoint_url": endpoint}
        return f"s3://bucket/{name}.zarr", {"storage_options": options}
    import icechunk

    storage = icechunk.s3_storage(
        bucket="bucket", prefix=name, endpoint_url=endpoint, allow_http=True,
        force_path_style=True, region="us-east-1", access_key_id="a", secret_access_key="b",
    )  # fmt: skip
    return icechunk.Repository.create(storage), {}


def write(kind: str, cube: Any, endpoint: str, name: str) -> None:
    import xharmonize as xh

    place, said = place_of(kind, endpoint, name)
    if kind == "xarray":
        cube.drop_attrs().to_zarr(place, zarr_format=3, consolidated=False, **said)
    else:
        xh.to_zarr(cube, place, progress=False, **said)


def client(
    kind: str, n_times: int, size: int, address: str, endpoint: str, pids: str
) -> dict[str, float]:
    """Write as a client; return seconds, bytes of the client by way, and bytes of the workers."""
    from distributed import Client
    from storing import lazy_cube

    own, port = str(os.getpid()), int(address.rpartition(":")[2])
    with Client(address):
        write(kind, lazy_cube(2, size), endpoint, f"{kind}-warm")
        cube = lazy_cube(n_times, size)
        ask(endpoint, f"/-/counts?{own},{pids}")
        before, start = through_sockets(port), time.perf_counter()
        write(kind, cube, endpoint, kind)
        seconds = time.perf_counter() - start
        dask = through_sockets(port) - before
    counts = json.loads(ask(endpoint, "/-/counts"))
    workers = sum(counts.get(f"{pid} bytes", 0) for pid in pids.split(","))
    return {
        "seconds": seconds,
        "client": counts.get(f"{own} bytes", 0),
        "dask": dask,
        "workers": workers,
        "others": counts.get("others bytes", 0),
        "requests": sum(n for name, n in counts.items() if name.endswith("requests")),
    }


def through_sockets(port: int) -> int:
    """Bytes sent and received so far by this process's connections to a port."""
    total = 0
    for handle in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(handle))) as one:
                if one.getpeername()[1] == port:
                    info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
                    total += sum(struct.unpack_from("QQ", info, 120))
        except (OSError, IndexError):  # no socket, or not connected
            continue
    return total


# All of it.


def put_objects(endpoint: str, first: int, n: int, size: int) -> None:
    """Say that we are ready, wait for a line, put objects, and say that it is done."""
    import boto3

    store = boto3.client("s3", endpoint_url=endpoint, **KEYS)
    body = os.urandom(size)
    store.put_object(Bucket="bucket", Key=f"raw/{first}", Body=b"")
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(first, first + n):
        store.put_object(Bucket="bucket", Key=f"raw/{number}", Body=body)
    print("done", flush=True)


def floor(endpoint: str, n_processes: int, n: int, size: int) -> float:
    """Seconds that processes need to put objects by boto3, and to do nothing else."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    each = n // n_processes
    command = [sys.executable, __file__, "--put", endpoint]
    some: list[Any] = [
        subprocess.Popen([*command, *map(str, (i * each, each, size))], text=True, **pipes)
        for i in range(n_processes)
    ]
    for process in some:
        process.stdout.readline()
    start = time.perf_counter()
    for process in some:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in some:
        process.stdout.readline()
    seconds = time.perf_counter() - start
    for process in some:
        process.communicate()
    return seconds


@contextmanager
def server() -> Iterator[str]:
    command = [sys.executable, __file__, "--serve"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, stderr=subprocess.DEVNULL, **pipes) as process:
        yield str(process.stdout.readline()).strip()  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]


def measure(kind: str, n_times: int, size: int, *where: str) -> dict[str, float]:
    endpoint = where[1]
    ask(endpoint, "/moto-api/reset", "POST")
    ask(endpoint, "/bucket", "PUT")
    command = [sys.executable, __file__, "--one", kind, str(n_times), str(size), *where]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(
    n_workers: int, n_times: int = N_TIMES, size: int = SIZE, repeats: int = REPEATS
) -> dict[str, dict[str, float]]:
    """Print one block of the table; return the last run of each kind."""
    from distributed import LocalCluster

    megabytes = n_times * 6 * size**2 * 4 / 1e6
    options = {"threads_per_worker": 1, "dashboard_address": None}
    with (
        server() as endpoint,
        LocalCluster(n_workers=n_workers, **options) as cluster,
    ):
        pids = ",".join(str(worker.pid) for worker in cluster.workers.values())
        runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
        for _ in range(repeats):  # in turn: the machine may change meanwhile
            for kind in KINDS:
                where = (cluster.scheduler_address, endpoint, pids)
                runs[kind].append(measure(kind, n_times, size, *where))
        stored = runs["url"][0]["workers"]
        raw = [floor(endpoint, n_workers, n_times, int(stored / n_times)) for _ in range(repeats)]
    for kind, some in runs.items():
        seconds = statistics.median(run["seconds"] for run in some)
        one = some[-1]
        print(
            f"{n_workers} workers, {KINDS[kind]:25} {seconds:6.2f} s"
            f" {megabytes / seconds:5.0f} MB/s"
            f" | client: S3 {one['client'] / 1e6:8.3f} MB, Dask {one['dask'] / 1e6:6.3f} MB"
            f" | workers: S3 {one['workers'] / 1e6:7.1f} MB | others {one['others'] / 1e6:.3f} MB"
            f" | {one['requests']:.0f} requests",
            flush=True,
        )
    seconds = statistics.median(raw)
    print(
        f"{n_workers} processes put as many bytes by boto3: {seconds:.2f} s, "
        f"{megabytes / seconds:.0f} MB/s of pixels ({stored / 1e6 / seconds:.0f} MB/s of bytes)"
    )
    return {kind: some[-1] for kind, some in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true")
    names = ("KIND", "DATES", "SIZE", "SCHEDULER", "URL", "PIDS")
    parser.add_argument("--one", nargs=6, metavar=names)
    parser.add_argument("--put", nargs=4, metavar=("URL", "FIRST", "N", "SIZE"))
    parser.add_argument("--dates", type=int, default=N_TIMES)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.put:
        endpoint, *numbers = options.put
        put_objects(endpoint, *map(int, numbers))
    elif options.one:
        kind, n_times, size, *where = options.one
        print(json.dumps(client(kind, int(n_times), int(size), *where)))
    else:
        for n_workers in options.workers:
            compare(n_workers, options.dates, options.size, options.repeats)


if __name__ == "__main__":
    main()
