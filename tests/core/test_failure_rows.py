"""The validator is told of failed attempts, and never in a way that it does not survive."""

import csv
import io

from upload_adapters.memory import memory_ports
from upload_core import UploadClient
from upload_core.errors import SourceError
from upload_core.ports import Limits

FILES = {f"f{number}": b"x" * number for number in range(1, 30)}


def deliver(monkeypatch, failures):
    """A delivery in which opening a file fails as often as `failures` says; the pipeline and the rows of our log."""
    ports = memory_ports(FILES, limits=Limits(validator_stop_s=5))
    left, opened = dict(failures), ports.source.open

    def open_or_fail(relpath):
        if left.get(relpath, 0) > 0:
            left[relpath] -= 1
            raise SourceError(f"{relpath} cannot be read just now")
        return opened(relpath)

    monkeypatch.setattr(ports.source, "open", open_or_fail)
    client = UploadClient(
        dataset="demo",
        delivery_id="1",
        transfer_type="staging",
        file_index=[{"path": path} for path in FILES],
        source="memory:",
        n_threads=2,
        ports=ports,
    )
    summary = client.run()
    log = ports.control.read("log/client_staging")
    assert log
    text = io.StringIO(log[0].decode(), newline="")
    rows = [row[1:5] for row in csv.reader(text, delimiter="\t") if row[1] == "transfer"]
    return summary, ports.pipeline.validator, rows


def test_each_failed_attempt_is_told_before_the_file_is_announced(monkeypatch):
    summary, validator, rows = deliver(monkeypatch, {"f7": 2, "f9": 1})
    assert summary.outcome == "complete"
    assert not validator.killed
    of_seven = [status for _, path, status, _ in rows if path == "f7"]
    assert of_seven[-1] == "ok"
    assert of_seven.count("error") >= 1
    assert [message for _, path, status, message in rows if path == "f9" and status == "error"] == [
        "f9 cannot be read just now"
    ]
    assert sum(status == "ok" for _, _, status, _ in rows) == len(FILES)


def test_a_file_that_is_given_up_is_told_as_failed_and_ends_the_delivery_incomplete(monkeypatch):
    summary, validator, rows = deliver(monkeypatch, {"f5": 99})
    assert (summary.outcome, summary.counts["failed"]) == ("incomplete", 1)
    assert not validator.killed
    assert {status for _, path, status, _ in rows if path == "f5"} == {"error"}
