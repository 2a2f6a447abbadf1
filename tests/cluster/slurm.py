"""A real SLURM of two nodes on this machine's loopback, in a folder of its own, stopped whatever happens."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
NODES = ("n1", "n2")
CONFIG = """
ClusterName=locheads
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# Jobs that are queued again start once their credentials have expired: 2 minutes by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
# No cgroups: this may be a container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
KillWait=10
ReturnToService=2
TreeWidth=2
PartitionName=test Nodes=ALL Default=YES State=UP
"""
NODE = "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000"


def why_not() -> str | None:
    """Why no SLURM can be brought up here; None if it can be tried."""
    absent = [name for name in DAEMONS if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "the daemons of SLURM need root"


class Slurm:
    """The daemons, as children of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []
        folder.mkdir(mode=0o755, exist_ok=True)
        (folder / "state").mkdir()
        ports = free_ports(1 + len(NODES))
        text = CONFIG.format(folder=folder, port=ports[0])
        text += "\n".join(NODE.format(name=n, port=p) for n, p in zip(NODES, ports[1:], strict=True)) + "\n"
        (folder / "slurm.conf").write_text(text)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    def start(self) -> None:
        """Raises RuntimeError, with the daemons' last words, where they do not come up."""
        files = {name: f"--{name}-file={self.folder / 'munge'}.{name}" for name in ("pid", "log", "seed")}
        self._launch(
            "munged", "--force", "--foreground", f"--key-file={self.folder / 'munge.key'}",
            f"--socket={self.folder / 'munge.socket'}", *files.values(),
        )  # fmt: skip
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._launch("slurmctld", "-D", "-i")
        for name in NODES:
            (self.folder / f"spool.{name}").mkdir()
            self._launch("slurmd", "-D", "-N", name)
        self._until(lambda: self.command("sinfo", "-h", "-o", "%D %t") == f"{len(NODES)} idle", "slurmd")

    def stop(self) -> None:
        """Cancels all jobs and ends the daemons."""
        jobs = self.command("squeue", "-h", "-o", "%A").split()
        if jobs:
            self.command("scancel", "--signal=KILL", "--full", *jobs)
            self.command("scancel", *jobs)
        with suppress(RuntimeError):
            self._until(lambda: not self.command("squeue", "-h"), "the end of all jobs", 20)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._end_stepds()

    def _end_stepds(self) -> None:
        """They outlive slurmd by design; ours have their spool below our folder."""
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "comm").read_text().startswith("slurmstepd") and self._is_ours(process):
                    os.kill(int(process.name), signal.SIGKILL)

    def _is_ours(self, process: Path) -> bool:
        return f"SLURM_CONF={self.folder / 'slurm.conf'}".encode() in (process / "environ").read_bytes().split(b"\0")

    def command(self, *arguments: str) -> str:
        """Standard output of one of SLURM's commands."""
        result = subprocess.run(arguments, capture_output=True, text=True, env=os.environ | self.environment)
        return result.stdout.strip()

    def state(self, job: str) -> str:
        """Of a job or an array's task."""
        fields = self.command("scontrol", "show", "job", "-o", job).split()
        return next((field.removeprefix("JobState=") for field in fields if field.startswith("JobState=")), "GONE")

    def wait(self, jobs: Sequence[str], seconds: float = 120) -> None:
        """Until none of the jobs is in the queue any more."""
        self._until(lambda: not self.command("squeue", "-h", "-j", ",".join(jobs)), f"jobs {jobs}", seconds)

    def _launch(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}.{len(self._daemons)}.out").open("wb")
        self._daemons.append(
            subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | self.environment
            )
        )

    def _until(self, holds: Callable[[], bool], what: str, seconds: float = 30) -> None:
        until(holds, what, seconds, self.last_words)

    def last_words(self) -> str:
        """Of every daemon."""
        files = [*self.folder.glob("*.log"), *self.folder.glob("*.out")]
        return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-600:]}" for file in files)


def until(holds: Callable[[], bool], what: str, seconds: float = 60, words: Callable[[], str] = str) -> None:
    """Waits until it holds. Raises RuntimeError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {seconds} s\n{words()}")
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """On loopback."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
