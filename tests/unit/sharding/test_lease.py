"""One owner per shard, and a successor once the owner is dead."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from locheads.errors import StoreError
from locheads.sharding import lease
from locheads.sharding.lease import Lease, Record, State, claim, read, take
from locheads.store.derived import write_derived_json

LONG = 1000.0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Lease]]:
    """Claims a shard that is free; closes it in the end."""
    taken: list[Lease] = []

    def get(shard: int = 0, lease_s: float = LONG) -> Lease:
        found = claim(tmp_path, shard, lease_s)
        assert isinstance(found, Lease)
        taken.append(found)
        return found

    yield get
    for one in taken:
        one.close(State.stopped)


def elsewhere(path: Path, **changes: object) -> None:
    """Makes the lease one of a process that this machine knows nothing of."""
    content = json.loads(path.read_text())
    content["owner"] |= {"host": "far", "place": "far away", "job": None} | changes
    write_derived_json(path, content)


def test_a_shard_has_one_owner(tmp_path: Path, own: Callable[..., Lease]) -> None:
    first = own()
    second = claim(tmp_path, 0, LONG)
    assert isinstance(second, Record)
    assert second.state is State.running
    assert second.owner() == f"{lease.this_process()['host']}, process {os.getpid()}"
    assert own(1).generation == first.generation == 0


@pytest.mark.parametrize(("state", "is_free"), [(State.done, False), (State.failed, True), (State.stopped, True)])
def test_what_ended_badly_is_free_again(state: State, is_free: bool, tmp_path: Path, own: Callable[..., Lease]) -> None:
    own().close(state, "why")
    assert read(tmp_path, 0, LONG).content["error"] == "why"
    found = claim(tmp_path, 0, LONG)
    assert isinstance(found, Lease) == is_free
    if isinstance(found, Lease):
        assert found.generation == 1
        found.close(State.done)


def test_done_is_done_once_more_where_that_is_needed(tmp_path: Path, own: Callable[..., Lease]) -> None:
    own().close(State.done)
    assert isinstance(claim(tmp_path, 0, LONG, lambda _: False), Record)
    found = claim(tmp_path, 0, LONG, lambda _: True)
    assert isinstance(found, Lease)
    found.close(State.done)


def test_a_killed_owner_of_this_machine_is_dead_at_once(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from locheads.sharding.lease import claim
claim(Path({str(tmp_path)!r}), 0, {LONG})
print("mine", flush=True)
time.sleep(100)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "mine\n"
    assert read(tmp_path, 0, LONG).state is State.running
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read(tmp_path, 0, LONG).state is State.died
    found = claim(tmp_path, 0, LONG)
    assert isinstance(found, Lease)
    assert found.generation == 1
    found.close(State.done)


def test_an_id_that_another_process_got_is_not_the_owner(tmp_path: Path, own: Callable[..., Lease]) -> None:
    path = own().path
    content = json.loads(path.read_text())
    content["owner"]["born"] = "1"
    write_derived_json(path, content)
    assert read(tmp_path, 0, LONG).state is State.died


def test_an_owner_elsewhere_is_dead_after_its_silence(tmp_path: Path, own: Callable[..., Lease]) -> None:
    path = own().path
    elsewhere(path)
    assert read(tmp_path, 0, LONG).state is State.running
    old = time.time() - 100
    os.utime(path, (old, old))
    assert read(tmp_path, 0, LONG).state is State.running
    record = read(tmp_path, 0, 99)
    assert record.state is State.died
    assert 99 < record.age_s < 200


def test_the_earlier_life_of_a_requeued_job_is_dead_at_once(
    tmp_path: Path, own: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own().path
    elsewhere(path, job="7_3", rank="0", restarts=0)
    for name, value in {"ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "3", "PROCID": "0", "RESTART_COUNT": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    # By hand, several processes of one allocation have the same job.
    assert read(tmp_path, 0, LONG).state is State.running
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert read(tmp_path, 0, LONG).state is State.died
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert read(tmp_path, 0, LONG).state is State.running


def test_an_owner_that_was_taken_over_notices(tmp_path: Path, own: Callable[..., Lease]) -> None:
    first = own()
    first.tell(images_done=3)
    (tmp_path / "0000.0001.lease").write_text("")
    with pytest.raises(StoreError, match="Shard 0 was taken over by another worker"):
        first.tell(images_done=4)


def test_a_lease_that_is_being_written_counts_as_running_until_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "0000.0000.lease"
    path.write_text("")
    assert read(tmp_path, 0, LONG).state is State.running
    os.utime(path, (1, 1))
    assert read(tmp_path, 0, LONG).state is State.died


def test_a_living_owner_is_heard_of(tmp_path: Path, own: Callable[..., Lease]) -> None:
    mine = own(lease_s=0.6)
    before = read(tmp_path, 0, LONG).content["beat"]
    deadline = time.monotonic() + 30
    while read(tmp_path, 0, LONG).content["beat"] == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert read(tmp_path, 0, LONG).content["beat"] > before
    assert mine.path.exists()


def test_take_gives_what_is_free_and_leaves_the_living_alone(tmp_path: Path, own: Callable[..., Lease]) -> None:
    own(0).close(State.done)
    own(1, lease_s=1.0)
    got = []
    for each in take(tmp_path, [2, 0, 1, 3], 30.0):
        got.append(each.shard)
        each.close(State.done)
    assert got == [2, 3]


def test_take_waits_for_a_silent_owner_and_takes_over(tmp_path: Path, own: Callable[..., Lease]) -> None:
    path = own(0).path
    elsewhere(path)
    (found,) = [each for each in take(tmp_path, [0], 0.5) if each.close(State.done) is None]
    assert found.generation == 1


def _grab(folder: Path, shards: int, results: object) -> None:
    got = []
    for shard in range(shards):
        found = claim(folder, shard, LONG)
        if isinstance(found, Lease):
            got.append(shard)
            found.close(State.done)
    results.put(got)  # type: ignore[attr-defined]


def test_several_processes_never_share_a_shard(tmp_path: Path) -> None:
    context = get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_grab, args=(tmp_path, 40, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    got = [shard for _ in workers for shard in results.get(timeout=60)]
    for worker in workers:
        worker.join()
    assert sorted(got) == list(range(40))


def test_without_hard_links_it_works_as_well(
    tmp_path: Path, own: Callable[..., Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert own().generation == 0
    assert isinstance(claim(tmp_path, 0, LONG), Record)


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot write .*file/work/.*: Not a directory"):
        claim(tmp_path / "file" / "work", 0, LONG)


@pytest.mark.parametrize("content", ["[]", '{"state": "resting"}', '{"owner": {"pid": 1}}', '{"owner": 3}', "{"])
def test_a_file_that_is_no_lease_counts_as_one_that_is_being_written(
    content: str, tmp_path: Path, own: Callable[..., Lease]
) -> None:
    own().path.write_text(content)
    assert read(tmp_path, 0, LONG).state is State.running
    assert read(tmp_path, 0, LONG, now=time.time() + 2 * LONG).state is State.died
