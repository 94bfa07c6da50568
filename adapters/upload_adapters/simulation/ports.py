"""The archive's side as a client's process sees it: control bucket, pipeline and identity, each call through its `Life`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from upload_adapters.simulation.life import Life
from upload_core.errors import PipelineError
from upload_core.logs import OVERLAP_BYTES
from upload_core.ports import ControlBucket, Identity, ObjectInfo, Pipeline

T = TypeVar("T")


class SimulatedControl:
    """The control bucket over a network that fails."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._control = life.world.control
        self._keys = life.world.keys

    def head(self, key: str) -> ObjectInfo | None:
        return self._ask("head", key, lambda: self._control.head(key))

    def read(self, key: str, start: int = 0) -> tuple[bytes, ObjectInfo] | None:
        # a look at a log that has nothing new is time that passes, and no step
        counts = key != self._keys.validator_log or self._control.size(key) > start + OVERLAP_BYTES
        return self._ask("read", key, lambda: self._control.read(key, start), counts=counts)

    def put(self, key: str, data: bytes, *, if_match: str | None = None, if_absent: bool = False) -> ObjectInfo:
        def act() -> ObjectInfo:
            with self._life.world.watching_lock(key, self._life.number, "client"):
                return self._control.put(key, data, if_match=if_match, if_absent=if_absent)

        return self._ask("control put", key, act, data=data)

    def append(self, key: str, data: bytes, *, offset: int) -> ObjectInfo:
        return self._ask("append", key, lambda: self._control.append(key, data, offset=offset), data=data)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        def act() -> None:
            with self._life.world.watching_lock(key, self._life.number, "client"):
                self._control.delete(key, if_match=if_match)

        self._ask("delete", key, act, data=b"-")

    def _ask(self, method: str, key: str, act: Callable[[], T], *, counts: bool = True, data: bytes = b"") -> T:
        return self._life.request("control", method, act, about=key, writes=bool(data), counts=counts, data=data)


class SimulatedPipeline:
    """Starts validators as the archive does: by a function that looks at the lock and at who is at work."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._world = life.world

    def start(self, *, agent_id: str, idempotency_key: str, client_config: Mapping[str, Any] | None) -> str:
        def act() -> str:
            return self._world.start_validator(agent_id, idempotency_key)

        refusal = self._life.request("pipeline", "start", act, about=idempotency_key, writes=True)
        if not refusal:
            return "status: success"
        if "already running" in refusal:
            if self.is_running():
                return refusal
            raise PipelineError("the archive counts a validation task as running although no validator is at work")
        raise PipelineError(refusal)

    def is_running(self) -> bool:
        return self._life.request("pipeline", "is_running", self._world.validator_seems_at_work)

    def close(self) -> None:
        self._life.boundary("pipeline.close")


class SimulatedIdentity:
    """Signs in, over a network that fails."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def sign_in(self) -> str:
        return self._life.request("identity", "sign_in", lambda: "simulated")


if TYPE_CHECKING:
    _control: type[ControlBucket] = SimulatedControl
    _pipeline: type[Pipeline] = SimulatedPipeline
    _identity: type[Identity] = SimulatedIdentity
