"""What every pool does; a new one is one more line in ``POOLS``."""

import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, cast

import cv2
import pytest

from wsi_pipeline import errors
from wsi_pipeline.calls import Answer, Call, Pool, SerialPool, run_all
from wsi_pipeline.compute import processes as processes_module
from wsi_pipeline.compute.cluster import LOCAL, PROCESSES, Cluster, open_pool
from wsi_pipeline.compute.pool import DaskPool
from wsi_pipeline.errors import ConfigError, PipelineError, SlideError

ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PipelineError)
]


@contextmanager
def serial() -> Iterator[Pool]:
    yield SerialPool()


@contextmanager
def processes() -> Iterator[Pool]:
    with open_pool(Cluster(workers=2)) as pool:
        yield pool


@contextmanager
def dask() -> Iterator[Pool]:
    with open_pool(Cluster(workers=1, where=LOCAL)) as pool:
        yield pool


POOLS = (serial, processes, dask)
OF_WORKERS = pytest.mark.parametrize("where", [PROCESSES, LOCAL])


@pytest.fixture(scope="module", params=POOLS, ids=lambda make: make.__name__)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with request.param() as made:
        yield made


def test_every_call_is_answered_once(pool: Pool) -> None:
    answers = list(run_all(pool, (call(double, number) for number in range(25))))
    assert sorted(answer.value for answer in answers) == list(range(0, 50, 2))
    assert sorted(answer.call.argument for answer in answers) == list(range(25))
    assert all(answer.error is None for answer in answers)


def test_an_answer_belongs_to_its_call_also_where_calls_share_name_and_argument(pool: Pool) -> None:
    answers = list(run_all(pool, [call(double, 4), call(double, 4), call(negative, 4)]))
    assert sorted(answer.value for answer in answers) == [-4, 8, 8]
    assert all(answer.value == answer.call.function(4) for answer in answers)


def test_no_calls_have_no_answers(pool: Pool) -> None:
    assert list(run_all(pool, [])) == []


def test_no_more_than_a_window_of_calls_is_under_way(pool: Pool) -> None:
    taken = 0

    def calls() -> Iterator[Call]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield call(double, number)

    for answered, _ in enumerate(run_all(pool, calls())):
        assert taken <= answered + pool.window + 1


def test_a_pool_is_used_again_after_all_was_answered(pool: Pool) -> None:
    for number in (1, 2):
        assert [answer.value for answer in run_all(pool, [call(double, number)])] == [2 * number]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_comes_back_as_itself_with_its_message(
    pool: Pool, kind: type[PipelineError]
) -> None:
    (answer,) = run_all(pool, [call(raise_it, (kind, "slide 7: näyte 😐"))])
    assert type(answer.error) is kind
    assert str(answer.error) == "slide 7: näyte 😐"
    assert answer.value is None


def test_an_error_of_a_library_is_an_answer_too(pool: Pool) -> None:
    (answer,) = run_all(pool, [call(divide, 0)])
    assert isinstance(answer.error, ZeroDivisionError)


@pytest.mark.parametrize("function", ["unmakeable", "unsendable", "unsendable_value"])
def test_what_cannot_travel_is_an_error_with_its_words(pool: Pool, function: str) -> None:
    (answer,) = run_all(pool, [call(globals()[function], "näyte 7")])
    if function != "unsendable_value":
        assert "näyte 7" in str(answer.error)
    elif not isinstance(pool, SerialPool):
        assert "pickle" in str(answer.error)
    assert [again.value for again in run_all(pool, [call(double, 1)])] == [2]


def test_one_error_does_not_keep_the_others_from_ending(pool: Pool) -> None:
    answers = list(run_all(pool, (call(divide, number) for number in (2, 0, 4, 0, 5))))
    assert sorted(answer.value for answer in answers if answer.error is None) == [20, 25, 50]
    assert sum(answer.error is not None for answer in answers) == 2


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_survives_pickling_with_its_message(kind: type[PipelineError]) -> None:
    again = pickle.loads(pickle.dumps(kind("what to do")))
    assert type(again) is kind
    assert again.args == ("what to do",)


@OF_WORKERS
def test_a_worker_that_dies_costs_its_own_slide_only(where: str) -> None:
    with open_pool(Cluster(workers=2, where=where)) as pool:
        calls = [call(die, 0), call(double, 1), call(double, 2), call(double, 3)]
        answers = {answer.call.argument: answer for answer in run_all(pool, calls)}
    assert [answers[number].value for number in (1, 2, 3)] == [2, 4, 6]
    assert isinstance(answers[0].error, SlideError)
    assert "worker process died" in str(answers[0].error)


@OF_WORKERS
def test_two_runs_on_one_machine_do_not_disturb_each_other(where: str) -> None:
    cluster = Cluster(workers=2, where=where)
    with open_pool(cluster) as first, open_pool(cluster) as second:
        for pool in (first, second):
            assert [answer.value for answer in run_all(pool, [call(double, 2)])] == [4]


@OF_WORKERS
def test_no_worker_is_started_without_a_call(where: str) -> None:
    begun = time.perf_counter()
    with open_pool(Cluster(workers=3, where=where)) as pool:
        assert pool.window >= 3
    assert time.perf_counter() - begun < 0.5


def test_work_for_workers_is_done_in_another_process(pool: Pool) -> None:
    (answer,) = run_all(pool, [call(process, 0)])
    assert (answer.value == os.getpid()) == isinstance(pool, SerialPool)


def test_an_address_where_nothing_answers_is_refused_at_the_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import distributed  # noqa: PLC0415  a second to import, and only here

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr(distributed, "Client", refuse)
    cluster = Cluster(workers=1, where="tcp://127.0.0.1:1")
    with (
        open_pool(cluster) as pool,
        pytest.raises(ConfigError, match=r"cluster tcp://127\.0\.0\.1:1: no scheduler answers"),
    ):
        pool.submit(call(double, 1))


def test_a_process_that_dies_once_is_replaced_and_its_call_made_again(tmp_path: Path) -> None:
    with open_pool(Cluster(workers=2)) as pool:
        calls = [call(die_once, tmp_path / str(number)) for number in range(3)]
        answers = list(run_all(pool, calls))
    assert [answer.error for answer in answers] == [None] * 3
    assert sorted(answer.value for answer in answers) == ["0", "1", "2"]


def test_processes_end_with_their_pool_whatever_they_are_busy_with() -> None:
    with open_pool(Cluster(workers=2)) as pool:
        (answer,) = run_all(pool, [call(process, 0)])
        pool.submit(call(time.sleep, 60))
    with pytest.raises(ProcessLookupError):
        os.kill(answer.value, 0)


def test_processes_end_with_their_pool_where_one_was_only_half_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, pids = ForkServerProcess.start, []

    def interrupted(process: ForkServerProcess) -> None:
        start(process)
        pids.append(process.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(ForkServerProcess, "start", interrupted)
    begun = time.perf_counter()
    with open_pool(Cluster(workers=2)) as pool, pytest.raises(KeyboardInterrupt):
        pool.submit(call(double, 1))
    assert time.perf_counter() - begun < 20
    assert not any(map(is_alive, pids))


def test_a_pool_goes_on_when_the_server_that_forks_its_processes_is_killed() -> None:
    with open_pool(Cluster(workers=2)) as pool:
        (answer,) = run_all(pool, [call(process, 0)])
        os.kill(forkserver._forkserver._forkserver_pid, 9)  # type: ignore[attr-defined]
        os.kill(answer.value, 9)
        answers = list(run_all(pool, (call(double, number) for number in range(6))))
    assert sorted(answer.value for answer in answers) == [0, 2, 4, 6, 8, 10]


def test_processes_that_cannot_be_started_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(processes_module, "_PAUSES_S", (0.0,))
    monkeypatch.setattr(ForkServerProcess, "start", refuse)
    with (
        open_pool(Cluster(workers=2)) as pool,
        pytest.raises(ConfigError, match=r"workers: a process cannot be started .*take fewer"),
    ):
        pool.submit(call(double, 1))


def test_processes_end_when_their_owner_is_killed(tmp_path: Path) -> None:
    killed = ended_script(
        tmp_path,
        """
        with open_pool(Cluster(workers=2)) as pool:
            print(next(run_all(pool, [call(process, 0)])).value, flush=True)
            os.kill(os.getpid(), 9)
        """,
    )
    worker = int(killed.stdout)
    deadline = time.monotonic() + 20
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert killed.returncode == -9
    assert not is_alive(worker)


def test_a_busy_process_ends_with_its_owner_and_writes_no_more(tmp_path: Path) -> None:
    killed = ended_script(
        tmp_path,
        f"""
        with open_pool(Cluster(workers=2)) as pool:
            pool.submit(call(write_late, {str(tmp_path / "late")!r}))
            pool.submit(call(process, 0))
            print(pool.next_answer().value, flush=True)
            os.kill(os.getpid(), 9)
        """,
    )
    assert killed.returncode == -9
    time.sleep(2.5)
    assert not (tmp_path / "late").exists()


def test_processes_have_loaded_what_they_share_before_their_first_call(tmp_path: Path) -> None:
    preloaded = ended_script(
        tmp_path,
        """
        from wsi_pipeline.compute.cluster import warm_up
        cluster = Cluster(workers=2)
        warm_up(cluster, preload=["wsi_pipeline.run"])
        with open_pool(cluster, preload=["wsi_pipeline.run"]) as pool:
            print(next(run_all(pool, [call(is_loaded, "wsi_pipeline.stages.tiling")])).value)
        """,
    )
    assert preloaded.stdout == "True\n"


def test_the_processor_time_of_processes_is_counted_as_their_owners(tmp_path: Path) -> None:
    counted = ended_script(
        tmp_path,
        """
        with open_pool(Cluster(workers=2)) as pool:
            list(run_all(pool, [call(busy, 0.5)]))
        print(os.times().children_user + os.times().children_system)
        """,
    )
    assert float(counted.stdout) > 0.4


def test_a_scheduler_that_is_lost_ends_the_run_and_fails_no_slide() -> None:
    from distributed.client import FutureCancelledError  # noqa: PLC0415  a second to import

    class Lost:
        key = "x-1"

        def result(self) -> None:
            raise FutureCancelledError("x-1", "scheduler-connection-lost")

        def release(self) -> None:
            pass

    class Completed:
        def has_ready(self) -> bool:
            return True

        def __next__(self) -> Lost:
            return Lost()

    pool = DaskPool(cast("Any", None), slots=1)  # connected already
    pool._client, pool._completed = cast("Any", Lost()), cast("Any", Completed())
    pool._calls["x-1"] = call(double, 1)
    with pytest.raises(PipelineError, match="connection to the scheduler was lost"):
        pool.next_answer()


@pytest.mark.parametrize("workers", [0, -1])
def test_a_cluster_without_workers_is_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match=f"workers: expected at least 1, got {workers}"):
        Cluster(workers=workers)


def test_one_process_is_this_one_and_is_left_as_it_was() -> None:
    threads = cv2.getNumThreads()
    with open_pool(Cluster(workers=1)) as pool:
        (answer,) = run_all(pool, [call(process, 0)])
        assert cv2.getNumThreads() == 1
    assert answer.value == os.getpid()
    assert cv2.getNumThreads() == threads


def test_a_serial_pool_runs_a_call_when_it_is_asked_for() -> None:
    seen: list[int] = []
    pool = SerialPool()
    pool.submit(call(seen.append, 1))
    assert seen == []
    assert pool.next_answer() == Answer(call=call(seen.append, 1), value=None)
    assert seen == [1]


def call(function: object, argument: object) -> Call:
    assert callable(function)
    return Call(name="slide 7", function=function, argument=argument)


def double(number: int) -> int:
    return 2 * number


def negative(number: int) -> int:
    return -number


def divide(number: int) -> float:
    return 100 / number


def raise_it(kind_and_message: tuple[type[PipelineError], str]) -> None:
    kind, message = kind_and_message
    raise kind(message)


def process(_: int) -> int:
    return os.getpid()


class TwoWordsError(Exception):
    """Cannot be made again from its arguments, as many libraries' errors."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def unmakeable(text: str) -> None:
    raise TwoWordsError(text, "is bad")


def unsendable(text: str) -> None:
    raise ValueError(text, threading.Lock())


def unsendable_value(_: str) -> object:
    return threading.Lock()


def write_late(path: str) -> None:
    time.sleep(2)
    Path(path).touch()


def is_loaded(module: str) -> bool:
    return module in sys.modules


def die_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os._exit(9)
    return marker.name


def busy(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def ended_script(folder: Path, body: str) -> "subprocess.CompletedProcess[str]":
    """Run lines that know this module's names in a process of their own."""
    lines = textwrap.indent(textwrap.dedent(body), "    ")
    script = folder / "script.py"
    script.write_text(
        f"from tests.contracts.test_pool import *\nif __name__ == '__main__':\n{lines}"
    )
    paths = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env=paths
    )


def is_alive(pid: int | None) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def die(_: int) -> None:
    os._exit(17)
