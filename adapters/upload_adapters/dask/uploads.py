"""Multipart uploads of orders that are due, as they stand by what workers told: a batch that runs again goes on with them."""

from __future__ import annotations

from msgspec.structs import replace

from upload_core.effects import FileOrder, FileProgress, OpenUpload, PartStored, TransferFile, UploadBegun, UploadEnded


class OpenUploads:
    """By file; it knows what orders brought along and what was told since."""

    def __init__(self) -> None:
        self._uploads: dict[int, OpenUpload] = {}

    def __getitem__(self, file: int) -> OpenUpload | None:
        """The upload to go on with, a copy that stays as it is; None if there is none."""
        upload = self._uploads.get(file)
        return None if upload is None else replace(upload, parts=dict(upload.parts))

    def add(self, order: FileOrder) -> None:
        """This order is due now."""
        if isinstance(order, TransferFile) and order.upload is not None:
            self._open(order.file, order.upload)

    def discard(self, file: int) -> None:
        """Its order has ended."""
        self._uploads.pop(file, None)

    def take(self, news: FileProgress) -> None:
        """Note what was told."""
        match news:
            case UploadBegun():
                self._open(news.file, news.upload)
            case PartStored() if (upload := self._uploads.get(news.file)) is not None:
                upload.parts[news.part.number] = news.part.checksum
            case UploadEnded():
                self.discard(news.file)

    def _open(self, file: int, upload: OpenUpload) -> None:
        # Its own parts, to be added to: those of the order belong to the delivery.
        self._uploads[file] = replace(upload, parts=dict(upload.parts))
