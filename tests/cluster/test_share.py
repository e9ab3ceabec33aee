"""A model's files reach every worker, also those that come later, and nothing else does."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import xharmonize as xh
from xharmonize.errors import ClusterError, ModelError
from xharmonize.models import places
from xharmonize.models.bundle import read_weights, write_bundle
from xharmonize.models.refs import ModelRef

from .conftest import running_cluster, small_card

distributed = pytest.importorskip("distributed")


def checksum(ref: ModelRef) -> float:
    """Sum of a model's weights as a worker reads them."""
    return float(sum(array.astype(float).sum() for array in read_weights(ref).values()))


def checksums(client, ref: ModelRef) -> list[float]:
    """The sum as a task on each worker finds it; no task runs before a worker's plugins are up."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    futures = [client.submit(checksum, ref, workers=[name], pure=False) for name in workers]
    return client.gather(futures)


def copies(digest: str, dask_worker) -> list[str]:
    folder = Path(dask_worker.local_directory) / "xharmonize" / digest
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def one_worker():
    """One cluster of one worker, for tests that leave it as it was."""
    with running_cluster(1) as client:
        yield client


@pytest.mark.slow
def test_workers_read_their_own_copy_however_they_come(bundle):
    expected = checksum(bundle)
    with running_cluster(1) as client:
        reached = xh.cluster.share(bundle, client)
        assert reached == tuple(client.scheduler_info()["workers"])
        files = sorted(path.name for path in Path(bundle.location).iterdir())
        shutil.rmtree(bundle.location)  # the client's disk is not that of the workers
        assert client.submit(checksum, bundle).result() == expected
        assert client.run(copies, bundle.digest) == {reached[0]: files}

        client.cluster.scale(2)
        client.wait_for_workers(2, timeout=30)
        assert checksums(client, bundle) == [expected] * 2

        client.restart()
        assert checksums(client, bundle) == [expected] * 2

        killed, victim = min(client.run(os.getpid).items())
        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while killed in client.scheduler_info(n_workers=-1)["workers"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        client.wait_for_workers(2, timeout=30)
        assert checksums(client, bundle) == [expected] * 2


def test_a_worker_without_the_model_names_the_call_that_sends_it(bundle, one_worker):
    shutil.rmtree(bundle.location)
    with pytest.raises(ModelError, match=r"xh\.cluster\.share\(model, client\)"):
        one_worker.submit(checksum, bundle).result()


def test_sharing_again_changes_nothing_and_mends_what_is_damaged(bundle, one_worker):
    (address,) = xh.cluster.share(bundle, one_worker)
    assert xh.cluster.share(bundle, one_worker) == (address,)

    def damage(digest, dask_worker):
        path = Path(dask_worker.local_directory, "xharmonize", digest, "weights.safetensors")
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    one_worker.run(damage, bundle.digest)
    with pytest.raises(ModelError):
        one_worker.submit(checksum, bundle, pure=False).result()
    xh.cluster.share(bundle, one_worker)
    assert one_worker.submit(checksum, bundle, pure=False).result() == checksum(bundle)


def test_a_path_and_a_file_url_are_shared_too(bundle):
    with running_cluster(1, processes=False) as client:
        assert len(xh.cluster.share(bundle.location, client)) == 1
        assert places.registered(bundle.digest) is not None
    assert places.registered(bundle.digest) is None


def test_a_bundle_at_a_url_is_shared(bundle, one_worker):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(bundle.location, "/models/small", recursive=True)
    ref = ModelRef(digest=bundle.digest, location="memory://models/small", name="small")
    xh.cluster.share(ref, one_worker)  # a memory of the client's own: workers cannot see it
    assert one_worker.submit(checksum, ref).result() == checksum(bundle)


def test_a_bundle_that_changed_since_it_was_loaded_is_not_sent(bundle, one_worker):
    write_bundle(bundle.location, small_card(), {"w": np.zeros(3, "f4")}, mode="w")
    with pytest.raises(ModelError, match="has changed since it was loaded"):
        xh.cluster.share(bundle, one_worker)


@pytest.mark.parametrize("name", ["hls-v2"])
def test_what_has_no_files_needs_no_sharing(name):
    with pytest.raises(ModelError, match=f"'{name}' has no files to share"):
        xh.cluster.share(xh.load_model(name), None)


def test_a_cluster_without_workers_is_an_error_at_once_or_waits_for_them(bundle):
    with running_cluster(0) as client:
        with pytest.raises(ClusterError, match=r"has 0 workers after 0\.5 s, not 1"):
            xh.cluster.share(bundle, client, timeout=0.5)
        assert xh.cluster.share(bundle, client, n_workers=0) == ()
        expected = checksum(bundle)
        shutil.rmtree(bundle.location)
        client.cluster.scale(1)
        assert client.submit(checksum, bundle).result(timeout=30) == expected


def test_a_closed_client_is_an_error(bundle):
    with running_cluster(0) as client:
        pass
    with pytest.raises(ClusterError, match="the client is closed"):
        xh.cluster.share(bundle, client)


def test_an_asynchronous_client_is_refused(bundle):
    async def share() -> None:
        async with distributed.Client(processes=False, n_workers=0, asynchronous=True) as client:
            xh.cluster.share(bundle, client)

    with pytest.raises(ClusterError, match="outside the event loop"):
        asyncio.run(share())


@pytest.mark.slow
def test_a_scheduler_that_is_gone_is_an_error(bundle):
    scheduler = subprocess.Popen(
        [
            sys.executable,
            *("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"),
            *("--port", "0", "--no-dashboard", "--scheduler-file", f"{bundle.location}.json"),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        client = distributed.Client(scheduler_file=f"{bundle.location}.json", timeout=30)
    finally:
        scheduler.kill()
        scheduler.wait()
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"does not answer|the client is"):
        xh.cluster.share(bundle, client, timeout=2)
    assert time.monotonic() - started < 10
    client.close()


@pytest.mark.slow
def test_names_that_leave_their_folder_are_refused():
    from xharmonize.cluster.plugins import plain

    assert plain("weights.safetensors") == "weights.safetensors"
    for name in ("", ".", "..", "../x", "/etc/passwd", "a\\b", "a\0"):
        with pytest.raises(ClusterError, match="no plain file name"):
            plain(name)
