"""L1 to L4: deliveries of many small files on one core, to a local archive and to ports in memory, beside the original."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import deliveries
from figures import ROOT, Figure, Goal, Scale, child, interleave, per

FLAT: Final = Goal("<=", 1.2)


def on_one_core() -> None:
    """Keep this process and its threads on one core, where the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


# --- what runs in a process of its own -----------------------------------------------------------


def deliver_to_directory(files: int) -> float:
    """CPU seconds of a whole delivery, index check, journal, syncs and validator included; every file must be valid."""
    import pandas as pd

    import upload_adapters.wiring  # noqa: F401 - what is imported once is not part of a file's cost
    from upload_core import UploadClient

    on_one_core()
    place = ROOT / "build"
    place.mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=place))
    try:
        names = deliveries.paths(files)
        source = _source(root, names)
        frame = pd.DataFrame({"path": names})
        before = time.process_time()
        client = UploadClient(
            dataset="demo",
            delivery_id="1",
            file_index=frame,
            transfer_type="staging",
            source=source,
            to=f"file://{root}/archive",
            journal=root / "journal",
            n_threads=4,
        )
        summary = client.run()
        seconds = time.process_time() - before
        assert summary.counts["valid"] == files, summary
        return seconds
    finally:
        shutil.rmtree(root)


def deliver_in_memory(files: int) -> float:
    """CPU seconds of a whole delivery between ports in memory: the core, the engine and the log formats."""
    from upload_adapters.memory import memory_ports
    from upload_core import UploadClient
    from upload_core.files import FileTable

    on_one_core()
    contents = dict.fromkeys(deliveries.paths(files), b"x")
    ports = memory_ports(contents, index=lambda *_: FileTable.from_columns(contents, [1] * files))
    before = time.process_time()
    client = UploadClient(
        dataset="demo",
        delivery_id="1",
        file_index=None,
        transfer_type="staging",
        source="memory",
        ports=ports,
        n_threads=deliveries.WORKERS,
    )
    summary = client.run()
    seconds = time.process_time() - before
    assert summary.counts["valid"] == files, summary
    return seconds


def deliver_like_original(files: int) -> float:
    """CPU seconds of what `deliver_by_original` does, by our client: a real directory and frame, the rest in memory."""
    import pandas as pd

    from upload_adapters.memory import memory_ports
    from upload_adapters.source_directory import DirectorySource
    from upload_core import UploadClient

    on_one_core()
    with tempfile.TemporaryDirectory() as directory:
        names = deliveries.paths(files)
        source = _source(Path(directory), names)
        frame = pd.DataFrame({"path": names})
        ports = memory_ports({})
        ports.source = DirectorySource(source)  # type: ignore[assignment]  # one port of the real world
        before = time.process_time()
        client = UploadClient(
            dataset="demo",
            delivery_id="1",
            file_index=frame,
            transfer_type="staging",
            source=source,
            ports=ports,
            n_threads=4,
        )
        summary = client.run()
        seconds = time.process_time() - before
        assert summary.counts["valid"] == files, summary
        return seconds


def deliver_by_original(files: int) -> float:
    """CPU seconds of the public original's client, driven by the loop of its own `upload()` without the pauses.

    Buckets, logs and lambda are the stand-ins in memory that its own tests use; it prints nothing there.
    """
    import pytest
    from mast_transfer_tools.tests import test_upload_client as original

    on_one_core()
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as monkeypatch:
        names = deliveries.paths(files)
        source = _source(Path(directory), names)
        monkeypatch.setattr(original, "make_source_tree", lambda *_: source)
        before = time.process_time()
        rig = original.make_upload_client_rig(monkeypatch, Path(directory), dict.fromkeys(names, ""), n_threads=4)
        rig.launch()
        client, judged, complete = rig.client, 0, 0
        while not client.done:
            client.update()
            if not (client.transfer_complete or client.done):
                while client.transfer_next_file() is not None:
                    client.transfer_next_file()
            stored = [row["ref"] for row in client.logger.rows if row["category"] == "transfer"]
            rig.push_validation_successes(stored[judged:])
            judged = len(stored)
            if client.n_complete != complete:
                complete = client.n_complete
        seconds = time.process_time() - before
        valid = sum(file.state == "valid" for file in client.file_list)
        rig.close()
        assert valid == files, valid
        return seconds


def _source(root: Path, names: list[str]) -> Path:
    """A directory with a small file of each name."""
    source = root / "source"
    for directory in {os.path.dirname(name) for name in names}:
        (source / directory).mkdir(parents=True)
    for name in names:
        (source / name).write_bytes(name.encode())
    return source


# --- the figures ---------------------------------------------------------------------------------


def _alone(function: str, files: int) -> float:
    code = (
        "import json, sys; sys.path.insert(0, 'benchmarks'); import bench_local; "
        f"print(json.dumps(bench_local.{function}(int(sys.argv[1]))))"
    )
    seconds: float = child(code, str(files))
    return seconds


def _growth(key: str, what: str, function: str, sizes: tuple[int, ...], rounds: int, goal: Goal | None) -> Figure:
    """How much dearer a file is among the most files than among the fewest."""
    seconds = interleave(
        {f"{files:,}": lambda files=files: _alone(function, files) for files in sizes},  # type: ignore[misc]
        rounds,
    )
    cost = {name: value / files for (name, value), files in zip(seconds.items(), sizes, strict=True)}
    beside = {f"{name} files:": per(value, 1, "file") for name, value in cost.items()}
    first, *_, last = cost.values()
    return Figure(
        key, f"{what}: cost per file, {sizes[-1]:,} beside {sizes[0]:,} files", goal, last / first, "x", beside
    )


def l1(scale: Scale) -> Iterator[Figure]:
    """A local archive: real files, real syncs, the validator in this process."""
    sizes = (500, 2_000) if scale.quick else (1_000, 10_000, 100_000)
    yield _growth("L1", "delivery to a local archive", "deliver_to_directory", sizes, min(scale.rounds, 3), FLAT)


def l2(scale: Scale) -> Iterator[Figure]:
    """Ports in memory: nothing but our own code."""
    sizes = (1_000, 10_000) if scale.quick else (1_000, 10_000, 100_000)
    yield _growth("L2", "delivery between ports in memory", "deliver_in_memory", sizes, scale.rounds, FLAT)


def l3(scale: Scale) -> Iterator[Figure]:
    """The public original, up to what can be waited for, and ours on the same files."""
    sizes = (250, 1_000) if scale.quick else (1_000, 4_000, 16_000)
    rounds = min(scale.rounds, 3)
    yield _growth("L3", "mast-transfer-tools 1.0.3, its own stand-ins", "deliver_by_original", sizes, rounds, None)
    yield _growth("L3", "ours on the same files", "deliver_like_original", sizes, rounds, FLAT)


def l4(scale: Scale) -> Iterator[Figure]:
    """Side by side at a size that the original can bear."""
    files = 1_000 if scale.quick else 16_000
    ours, original = "deliver_like_original", "deliver_by_original"
    seconds = interleave(
        {"ours": lambda: _alone(ours, files), "original": lambda: _alone(original, files)}, min(scale.rounds, 3)
    )
    yield Figure(
        "L4",
        f"{files:,} files of a directory to a stand-in in memory, beside mast-transfer-tools 1.0.3",
        None,
        seconds["original"] / seconds["ours"],
        beside={name: per(value, files, "file") for name, value in seconds.items()},
    )


FIGURES: Final = {"L1": l1, "L2": l2, "L3": l3, "L4": l4}
TITLE: Final = "Many small files, without a network"
