"""Ranks on real worker processes: they meet, fail, are stopped, and leave the cluster as it was."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from helpers import rank_functions as functions

import xharmonize as xh
from xharmonize.cluster import launch, preflight, run_ranks
from xharmonize.errors import ClusterError

pytest.importorskip("torch")
distributed = pytest.importorskip("distributed")

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def client():
    """Two workers of one thread; tests leave them usable."""
    with xh.cluster.local(n_workers=2, threads_per_worker=1, dashboard=False, gpu=False) as client:
        yield client


@pytest.fixture
def both(client):
    """The same, once both workers are there and answer."""
    client.wait_for_workers(2, timeout=120)
    preflight.ask(client, sorted(launch._threads(client)), {}, 120)  # torch is imported
    yield client
    assert held_locks(client) == [], "a lock is left behind"


def held_locks(client) -> list[str]:
    def look(dask_scheduler):
        locks = dask_scheduler.extensions["multi_locks"].locks
        return [name for name, users in locks.items() if users]

    return client.run_on_scheduler(look)


def test_ranks_meet_and_return_by_rank(both):
    before = both.submit(lambda: dict(os.environ), pure=False).result()
    assert run_ranks(functions.total, client=both) == [(0, 2.0), (1, 2.0)]
    assert run_ranks(functions.total, client=both, ranks=1) == [(0, 1.0)]
    for found in run_ranks(functions.environment, client=both):
        assert not {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"} & found.keys()
        assert found.keys() == before.keys()


def test_torchs_own_wrapper_works_in_ranks(both):
    assert run_ranks(functions.with_ddp, client=both) == [0.5, 0.5]


def test_ranks_tell_the_client_in_order(both):
    heard = []
    run_ranks(functions.telling, client=both, on_event=heard.append)
    for rank in range(2):
        assert [one["step"] for one in heard if one["rank"] == rank] == [0, 1, 2]


def test_what_the_client_cannot_do_with_an_event_is_raised(both):
    def full(event):
        raise OSError(f"no room for {event['step']}")

    with pytest.raises(OSError, match="no room for 0"):
        run_ranks(functions.telling, client=both, on_event=full)


def test_a_worker_that_leaves_before_the_start_is_replaced_without_a_restart(both, monkeypatch):
    there, chosen = launch._threads, []

    def of_one_that_left(client):
        found = there(client)
        return found | {"tcp://127.0.0.1:1": 1} if len(chosen) < 1 else found

    def choose(*args):
        found = launch_choose(*args)
        chosen.append(found)
        return found

    launch_choose = launch._choose
    monkeypatch.setattr(launch, "_threads", of_one_that_left)
    monkeypatch.setattr(launch, "_choose", choose)
    assert run_ranks(functions.total, client=both) == [(0, 2.0), (1, 2.0)]
    assert [len(one) for one in chosen] == [3, 2]


def test_an_error_of_a_rank_is_raised_with_its_place(both):
    begun = time.monotonic()
    with pytest.raises(ValueError, match="the cause") as caught:
        run_ranks(functions.raising, client=both, max_restarts=3)
    assert time.monotonic() - begun < 30, "the others waited for their timeout"
    (note,) = caught.value.__notes__
    assert note.startswith("on rank 1, worker tcp://127.0.0.1:")
    assert "in raising" in note
    with pytest.raises(ClusterError, match="Odd: odd cause"):
        run_ranks(functions.raising_oddly, client=both)
    assert run_ranks(functions.total, client=both) == [(0, 2.0), (1, 2.0)]


@pytest.mark.slow
def test_ranks_start_again_after_a_worker_was_killed(both, tmp_path):
    with pytest.warns(RuntimeWarning, match=r"rank 1 is lost.*starting again \(1 of 2\)"):
        pids = run_ranks(
            functions.killed_once, str(tmp_path / "flag"), client=both, ranks=2, max_restarts=2
        )
    assert len(set(pids)) == 2


@pytest.mark.slow
def test_restarts_are_counted(both, tmp_path):
    count = tmp_path / "count"
    with (
        pytest.warns(RuntimeWarning, match="starting again"),
        pytest.raises(ClusterError, match=r"rank 1 is lost: its worker tcp.*last of 1 restarts"),
    ):
        run_ranks(functions.killed, str(count), client=both, ranks=2, max_restarts=1)
    assert count.read_text() == "xx"


@pytest.mark.slow
def test_a_rank_that_hangs_is_named_and_its_worker_restarted(both):
    with pytest.raises(ClusterError, match=r"rank 1 on worker tcp.* does not answer"):
        run_ranks(functions.hanging, client=both, ranks=2, timeout=4)
    both.wait_for_workers(2, timeout=120)
    assert run_ranks(functions.total, client=both, ranks=2) == [(0, 2.0), (1, 2.0)]


def test_a_rank_that_never_comes_is_named(both, monkeypatch):
    """Another task gets in between the examination and the start."""
    ask, busy = preflight.ask, []

    def and_block(client, workers, *args):
        found = ask(client, workers, *args)
        busy.append(client.submit(time.sleep, 10, workers=[workers[1]], pure=False))
        time.sleep(0.5)
        return found

    monkeypatch.setattr(preflight, "ask", and_block)
    with pytest.raises(ClusterError, match=r"rank 1 has not come within 3 s: its worker tcp"):
        run_ranks(functions.total, client=both, ranks=2, timeout=3)
    monkeypatch.undo()
    distributed.wait(busy)


def test_a_busy_worker_is_named_before_anything_starts(both):
    first = sorted(launch._threads(both))[0]
    busy = both.submit(time.sleep, 8, workers=[first], pure=False)
    time.sleep(0.5)
    with pytest.raises(ClusterError, match=f"worker {first} has not answered for 2 s"):
        run_ranks(functions.total, client=both, ranks=2, timeout=2)
    assert run_ranks(functions.total, client=both, ranks=1) == [(0, 1.0)], "the idle one is taken"
    busy.result()


@pytest.fixture
def by_ctrl_c():
    """An interrupt is a KeyboardInterrupt: other packages take it for theirs when imported."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_stops_all_ranks(both, tmp_path, by_ctrl_c):
    path = tmp_path / "alive"

    def interrupt():
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if Path(f"{path}-1").exists():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.05)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_ranks(functions.endless, str(path), client=both)
    last = [Path(f"{path}-{rank}").read_text() for rank in range(2)]
    time.sleep(0.5)
    assert [Path(f"{path}-{rank}").read_text() for rank in range(2)] == last
    assert run_ranks(functions.total, client=both) == [(0, 2.0), (1, 2.0)]


@pytest.mark.slow
def test_two_launches_queue_for_the_workers(both):
    """Each with half of what it needs would wait for ever."""
    spans = {}

    def run(name):
        with distributed.Client(both.scheduler.address, set_as_default=False) as own:
            spans[name] = run_ranks(functions.span, 1.0, client=own, ranks=2)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    first, second = sorted(spans.values())
    assert max(end for _, end in first) <= min(begin for begin, _ in second)


def test_who_waits_too_long_for_workers_is_told(both, tmp_path):
    path = tmp_path / "alive"
    with (
        distributed.Client(both.scheduler.address, set_as_default=False) as own,
        launch._locked(own, sorted(launch._threads(both)), 5),
        pytest.raises(ClusterError, match="another launch has had the workers for 1 s"),
    ):
        run_ranks(functions.endless, str(path), client=both, wait=1)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from distributed import Client
from helpers.rank_functions import endless
from xharmonize.cluster import run_ranks
if __name__ == "__main__":
    run_ranks(endless, {path!r}, client=Client({address!r}))
"""


@pytest.mark.slow
def test_a_killed_client_leaves_no_rank_and_no_lock(both, tmp_path):
    path = tmp_path / "alive"
    code = KILLED.format(tests=str(TESTS), path=str(path), address=both.scheduler.address)
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment)
    until = time.monotonic() + 120
    while not Path(f"{path}-1").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert run_ranks(functions.total, client=both, ranks=2, wait=60) == [(0, 2.0), (1, 2.0)]


@pytest.mark.slow
def test_a_group_left_behind_is_refused_not_used(both):
    first = sorted(launch._threads(both))[0]
    both.submit(functions.join_another_group, workers=[first], pure=False).result()
    with pytest.raises(ClusterError, match=f"worker {first} is in a process group") as caught:
        run_ranks(functions.total, client=both, ranks=2)
    assert "client.restart_workers" in caught.value.cure
    both.restart_workers([first], timeout=120)


def test_ports_and_interfaces(both):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=f"cannot listen at 127.0.0.1:{port}"):
            run_ranks(functions.total, client=both, ranks=2, port=port)
    assert len(run_ranks(functions.total, client=both, ranks=2, port=port)) == 2
    assert len(run_ranks(functions.total, client=both, ranks=2, interface="lo")) == 2
    with pytest.raises(ClusterError, match=r"'ib7'.*name another interface"):
        run_ranks(functions.total, client=both, ranks=2, interface="ib7")


def test_too_few_workers(both):
    with pytest.raises(ClusterError, match=r"there are 2 workers after 1 s, and 3 ranks"):
        run_ranks(functions.total, client=both, ranks=3, timeout=1)
    with pytest.raises(ClusterError, match="give 1 or more"):
        run_ranks(functions.total, client=both, ranks=0)
    with pytest.raises(ClusterError, match="there are 0 workers"):
        run_ranks(functions.total, client=both, workers=["tcp://127.0.0.1:1"], timeout=1)


def test_workers_of_several_threads_and_closed_clients_are_refused():
    with distributed.Client(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as client:
        with pytest.raises(ClusterError, match="runs 2 tasks at once") as caught:
            run_ranks(functions.total, client=client)
        assert "threads_per_worker=1" in caught.value.cure
    with pytest.raises(ClusterError, match="the client is closed"):
        run_ranks(functions.total, client=client)


def test_files_that_a_worker_cannot_read_are_named(both, tmp_path):
    path = str(tmp_path / "there")
    Path(path).write_bytes(b"this")
    assert len(run_ranks(functions.total, client=both, readable={path: b"this"})) == 2
    with pytest.raises(ClusterError, match="holds something else"):
        run_ranks(functions.total, client=both, readable={path: b"other"})
    with pytest.raises(ClusterError, match=r"cannot read .*nowhere.*all machines share"):
        run_ranks(functions.total, client=both, readable={str(tmp_path / "nowhere"): b""})


@pytest.fixture(scope="module")
def facts():
    """Two workers with a GPU each."""
    one = replace(preflight.examine(), process=("a", 1), gpus=("GPU-1",), is_daemon=True)
    return {"tcp://a:1": one, "tcp://a:2": replace(one, process=("a", 2), gpus=("GPU-2",))}


@pytest.mark.parametrize(
    ("change", "message", "cure"),
    [
        ({"gpus": ()}, r"tcp://a:2 has no GPU, 1 others have one", 'device="cpu"'),
        ({"gpus": ("GPU-1",)}, "a:1 and tcp://a:2 use the same GPU", "dask-cuda"),
        ({"process": ("a", 1)}, "a:1 and tcp://a:2 are one process", "processes=True"),
        ({"has_group": True}, "a:2 is in a process group", "restart_workers"),
        ({"versions": {"python": "3.9.1"}}, r"a:2 has python 3\.9\.1, the client 3", "same"),
        ({"is_daemon": True}, "a:1 is a daemonic process", "distributed.worker.daemon"),
    ],
)
def test_what_does_not_suit_is_named_with_the_cure(facts, change, message, cure):
    second = replace(facts["tcp://a:2"], **change)
    with pytest.raises(ClusterError, match=message) as caught:
        preflight.require_fit(
            {**facts, "tcp://a:2": second},
            dict.fromkeys(facts, 1),
            device="auto",
            needs_processes="is_daemon" in change,
        )
    assert cure in caught.value.cure


@pytest.mark.slow
def test_the_backend_follows_the_workers(facts):
    threads = dict.fromkeys(facts, 1)
    assert preflight.require_fit(facts, threads, device="auto") == "nccl"
    assert preflight.require_fit(facts, threads, device="cpu") == "gloo"
    without = {address: replace(one, gpus=()) for address, one in facts.items()}
    assert preflight.require_fit(without, threads, device="auto") == "gloo"
    with pytest.raises(ClusterError, match="has no GPU"):
        preflight.require_fit(without, threads, device="cuda")


@pytest.mark.slow
def test_a_worker_that_runs_out_of_memory_is_named_so():
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="700MB",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        distributed.Client(cluster) as client,
        pytest.raises(ClusterError, match=r"rank 1 is lost: .* ran out of memory"),
    ):
        run_ranks(functions.greedy, client=client, ranks=2)


@pytest.mark.slow
def test_workers_at_other_addresses(tmp_path):
    """A scheduler and two workers of their own, each at its address and in its own folder."""
    processes = []

    def start(*words):
        folder = tmp_path / str(len(processes))
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]],
                cwd=folder,
                env=environment,
            )
        )

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    try:
        start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        for k in (2, 3):
            start("worker", f"127.0.0.1:{port}", "--host", f"127.0.0.{k}", "--nthreads", "1",
                  "--no-dashboard")  # fmt: skip
        with distributed.Client(f"127.0.0.1:{port}", timeout=60) as client:
            client.wait_for_workers(2, timeout=120)
            found = run_ranks(functions.address, client=client, ranks=2)
            assert [host for _, host in found] == ["127.0.0.2", "127.0.0.3"]
            found = run_ranks(functions.address, client=client, ranks=2, interface="lo")
            assert [host for _, host in found] == ["127.0.0.1", "127.0.0.1"]
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(30)


def test_a_peer_that_left_while_others_join_is_not_the_cause():
    """The one that fails first closes its sockets; who is still joining says so."""
    from torch import distributed as torch_distributed

    from xharmonize.cluster import rank

    class Left(torch_distributed.Store):
        """Has the address of a rank 1 that is gone."""

        def __init__(self):
            super().__init__()
            self.said, self.gone = {}, None

        def set(self, key, value):
            self.said[key] = value

        def get(self, key):
            return self.gone if self.gone and key.endswith("/1") else self.said[key]

        def wait(self, keys, *timeout):
            if self.gone is None:
                raise ValueError("rank 1 leaves here")

    store, half_a_second = Left(), timedelta(seconds=0.5)
    rank._backend("gloo", "127.0.0.1")
    create = torch_distributed.Backend._plugins[rank.GLOO.upper()].creator_fn
    with suppress(ValueError):  # kept by nothing, so that its sockets are closed
        create(store, 1, 2, half_a_second)
    store.gone = next(value for key, value in store.said.items() if key.endswith("/1"))
    with pytest.raises(RuntimeError, match="Gloo connectFullMesh failed") as caught:
        create(store, 0, 2, half_a_second)
    assert rank.is_of_peers(caught.value)
