"""How a host's type checker sees the public API: this module is checked by mypy, and never run."""

from pathlib import Path
from typing import assert_type

from upload_adapters.memory import MemoryPorts, memory_ports
from upload_core import Bucket, ClientFile, DataRoot, NothingToDoError, Ports, Record, Summary, UploadClient, resume


def host(ports: Ports, frame: object) -> int:
    """A host that uses every published name."""
    client = UploadClient(
        dataset="d", delivery_id="1", file_index=frame, transfer_type="staging", source=Path("data"), ports=ports
    )
    with client as same:
        assert_type(same, UploadClient)
        assert_type(client.done, bool)
        assert_type(client.n_complete, int)
        assert_type(client.next_file, ClientFile | None)
        assert_type(client.transfer_complete, bool)
        assert_type(client.validation_complete, bool)
        assert_type(client.acquire_lock(refresh=True), bool)
        assert_type(client.update(), bool)
        assert_type(client.transfer_next_file(), ClientFile | None)
        assert_type(client.excformat(ValueError()), str)
        client.cmessage("text", "success")
        client.cprint("text", padded=False)

        def observe(record: Record) -> None:
            assert_type(record.seq, int)
            assert_type(record.time_ms, int)

        unsubscribe = client.subscribe(observe)
        unsubscribe()
        try:
            summary = client.run()
        except NothingToDoError:
            return 0
        assert_type(summary, Summary)
        assert_type(summary.counts, dict[str, int])
        return summary.exit_code


def resumed(ports: Ports) -> UploadClient:
    """Both ways to resume give a client."""
    assert_type(resume("journal"), UploadClient)
    return UploadClient.resume(ports=ports, n_threads=4)


def rooted(file: ClientFile) -> str | None:
    """A data root of either kind."""
    assert_type(DataRoot(Path("x")).ls("sub"), tuple[str, ...])
    return DataRoot(Bucket("s3://source")).cp(file, Bucket("s3://destination"))


def bundled() -> Ports:
    """The memory bundle is a bundle, and shows what it holds."""
    ports = memory_ports({"a": b"a"})
    assert_type(ports, MemoryPorts)
    assert_type(ports.archive.contents(), dict[str, bytes])
    return ports


def refused() -> None:
    """What a checker must not let pass."""
    UploadClient(dataset="d", delivery_id="1", file_index=None, transfer_type="odd", source="x")  # type: ignore[arg-type]
    UploadClient("d", "1", None, "staging", "x")  # type: ignore[call-arg]
