"""A SLURM of one node on loopback: munge, controller and node, ended by their process numbers.

Needs Debian's ``slurm-wlm`` and ``munge``, and root. Everything lies in a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo")
PARTITION = "normal"
MEMORY = 8000
"""Of the node [MiB]; what jobs ask for is counted, and not enforced."""

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName={partition} Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class CannotStartError(Exception):
    """SLURM is not installed, or does not start here."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """A SLURM that runs; ``SLURM_CONF`` of this process names its configuration."""

    folder: Path

    def jobs(self) -> list[str]:
        """Numbers of the jobs that run, the oldest first."""
        return sorted(_tell("squeue", "-h", "-t", "R", "-o", "%i").split(), key=int)

    def cancel(self, job: str) -> None:
        """End a job as its owner or an administrator does."""
        _tell("scancel", job)

    def is_empty(self) -> bool:
        """Whether no job waits, runs or is ending."""
        return not _tell("squeue", "-h").strip()


def why_not() -> str:
    """Why SLURM cannot be started here; empty where it may be tried."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        return f"SLURM is not installed ({lacking[0]}): apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "SLURM's node starts as root only"


@contextmanager
def running_slurm(cpus: int = 2) -> Iterator[Slurm]:
    """Start a SLURM of one node of so many cores, whatever the machine has; end it afterwards.

    Raises
    ------
    CannotStartError
        If it cannot be started, with the end of the logs.
    """
    if reason := why_not():
        raise CannotStartError(reason)
    with ExitStack() as stack:
        # Not pytest's folder: a socket's path has at most 107 letters.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        for name in ("state", "spool"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        _write_key(folder / "key")
        (folder / "slurm.conf").write_text(_conf(folder, cpus))
        before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        stack.callback(_set_back, before)
        slurm = Slurm(folder=folder)
        stack.enter_context(_running(_munge(folder), folder))
        _wait(folder, (folder / "munge.socket").exists)
        stack.enter_context(_running(["slurmctld", "-D", "-c"], folder))
        stack.enter_context(_running(["slurmd", "-D"], folder))
        stack.callback(_end_jobs, slurm)
        _wait(folder, _is_idle)
        yield slurm


def _munge(folder: Path) -> list[str]:
    own = {"key-file": "key", "socket": "munge.socket", "pid-file": "munge.pid"}
    own |= {"log-file": "munge.log", "seed-file": "munge.seed"}
    options = [f"--{name}={folder / file}" for name, file in own.items()]
    return ["munged", "--foreground", "--force", *options]


def _write_key(path: Path) -> None:
    path.touch(0o600)
    path.write_bytes(os.urandom(1024))


def _conf(folder: Path, cpus: int) -> str:
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        controller, node = (one.getsockname()[1] for one in (a, b))
    return CONF.format(
        host=socket.gethostname().partition(".")[0],
        folder=folder,
        controller=controller,
        node=node,
        cpus=cpus,
        memory=MEMORY,
        partition=PARTITION,
    )


def _set_back(before: str | None) -> None:
    os.environ.pop("SLURM_CONF")
    if before is not None:
        os.environ["SLURM_CONF"] = before


@contextmanager
def _running(command: Sequence[str], folder: Path) -> Iterator[None]:
    """A daemon as our child, in the foreground; its output is its log."""
    with (folder / f"{command[0]}.out").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_idle() -> bool:
    with suppress(subprocess.SubprocessError):
        return _tell("sinfo", "-h", "-o", "%t").strip() == "idle"
    return False


def _wait(folder: Path, is_there: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() > until:
            ends = [f"{one.name}: {one.read_text()[-600:]}" for one in folder.glob("*.out")]
            raise CannotStartError("SLURM does not start\n" + "\n".join(ends))
        time.sleep(0.2)


def _end_jobs(slurm: Slurm, seconds: float = 20.0) -> None:
    """Have no job outlive its node."""
    with suppress(subprocess.SubprocessError):
        _tell("scancel", "--partition", PARTITION)
        until = time.monotonic() + seconds
        while not slurm.is_empty() and time.monotonic() < until:
            time.sleep(0.2)


def _tell(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout
