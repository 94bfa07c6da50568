"""Attempts at storing one file: what an archive is handed beside the bytes (see `ports.Attempt`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from upload_core.effects import (
    FileOrder,
    FileProgress,
    OpenUpload,
    PartStored,
    StoredPart,
    TransferFile,
    UploadBegun,
    UploadEnded,
)


class FreeAttempt:
    """An attempt that nobody limits, hears of or goes on with: for a host or a test that stores a single file."""

    def __init__(self, commit: Callable[[], None] | None = None) -> None:
        """`commit`, if given, is asked before anything becomes visible."""
        self._commit = commit

    @property
    def upload(self) -> OpenUpload | None:
        return None

    @property
    def resumable(self) -> bool:
        return False

    def commit(self) -> None:
        if self._commit is not None:
            self._commit()

    def upload_begun(self, upload: OpenUpload) -> None:
        pass

    def part_stored(self, part: StoredPart) -> None:
        pass

    def upload_ended(self) -> None:
        pass

    def pushed_back(self, why: str) -> None:
        pass

    def slot(self) -> AbstractContextManager[None]:
        return nullcontext()

    def spend(self, size_bytes: int) -> None:
        pass


class OrderAttempt(FreeAttempt):
    """The attempt that an order asks for: what the archive tells of it goes to `tell`, from any thread."""

    def __init__(self, order: FileOrder, commit: Callable[[], None], tell: Callable[[FileProgress], None]) -> None:
        super().__init__(commit)
        self._file = order.file
        self._upload = order.upload if isinstance(order, TransferFile) else None
        self._tell = tell

    @property
    def upload(self) -> OpenUpload | None:
        return self._upload

    @property
    def resumable(self) -> bool:
        return True

    def upload_begun(self, upload: OpenUpload) -> None:
        self._tell(UploadBegun(self._file, upload))

    def part_stored(self, part: StoredPart) -> None:
        self._tell(PartStored(self._file, part))

    def upload_ended(self) -> None:
        self._tell(UploadEnded(self._file))


if TYPE_CHECKING:
    from upload_core.ports import Attempt

    _free: type[Attempt] = FreeAttempt
    _ordered: type[Attempt] = OrderAttempt
