"""Puts adapters together into ports: the only module, besides the command line, that knows all of them.

Which archive a URL means is a row of `SCHEMES`. Nothing is written or asked here; that begins with `connect`.
"""

from __future__ import annotations

import functools
import importlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

import attrs

from upload_adapters import deployments, event_log
from upload_adapters.clock import SystemClock
from upload_adapters.configuration import Configuration
from upload_adapters.console import TerminalConsole
from upload_adapters.dispatch_channel import ChannelDispatcher
from upload_adapters.frames import frame_of
from upload_adapters.indexing import build_table
from upload_adapters.journal_file import DirectoryJournal
from upload_adapters.label import Label, read_label
from upload_adapters.local import DirectoryArchive, DirectoryPipeline, LocalPlaces, local_limits
from upload_adapters.local.identity import OperatingSystemIdentity, user_at_host
from upload_adapters.recorded import recorded as recorded
from upload_adapters.recorded import replay as replay
from upload_adapters.source_directory import DirectorySource
from upload_adapters.state_dump import DirectoryStateDump
from upload_core import events as ev
from upload_core.dataroot import Bucket
from upload_core.errors import ConfigurationError
from upload_core.ports import Archive, Clock, ControlBucket, Dispatcher, Identity, Limits, Pipeline, Ports, Source
from upload_core.text import printable, quoted
from upload_core.wiring import Wiring, WiringRequest

TO_VARIABLE: Final = "UPLOAD_CORE_TO"
THREADS: Final = "threads"
"""The name of transfers on threads of this process, which is what happens where nothing is said; and that of copies by S3."""
S3_BATCH: Final = "s3-batch"
JOURNALS: Final = ".upload-core"
"""The directory that journals lie in unless their place is named."""

Check = Callable[[str, str], Any]


@attrs.frozen
class Place:
    """The archive's side of a delivery, as one kind of archive provides it."""

    name: str
    archive: Archive
    control: ControlBucket
    pipeline: Pipeline
    identity: Identity
    limits: Limits
    clock: Clock = attrs.field(factory=SystemClock)
    archive_limits: Callable[[Limits], Limits] | None = None
    reconnect: Callable[[], None] | None = None
    strict_wire: bool = False
    """Whether the archive's validator reads the label, and cannot read every index that is one (see `index_check`)."""
    settings: Mapping[str, str] = attrs.field(factory=dict)
    sources: Mapping[str, Callable[[str], Source]] = attrs.field(factory=dict)
    """By scheme: sources that this archive reads as its own identity; others are opened as without a delivery."""
    demand_usable: Callable[[], None] = lambda: None
    """Raises `ConfigurationError` if no delivery can begin there, as far as a look without a request tells."""
    jobs: Callable[[Source, Dispatcher], Dispatcher] | None = None
    """Leaves copies to a service of the archive, all else to the dispatcher beside; None if there is no such service."""


# --- schemes -------------------------------------------------------------------------------------


def directory_of(url: str) -> str:
    """The directory that a `file:` URL names; raises `ConfigurationError` for one that names none."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or parts.query or parts.fragment:
        raise ConfigurationError(f"{printable(url, 300)} names no directory; write file:///absolute/path")
    return os.path.abspath(path)


def _local_place(url: str, request: WiringRequest, check: Check | None) -> Place:
    places = LocalPlaces(directory_of(url), request.dataset, request.delivery_id, request.transfer_type)
    limits = local_limits()
    return Place(
        name=f"file://{quote(places.directory)}",
        archive=places.archive(),
        control=places.control(),
        pipeline=DirectoryPipeline(places, check=check, lock_staleness_s=limits.lock_staleness_s),
        identity=OperatingSystemIdentity(),
        limits=limits,
        demand_usable=places.demand_usable,
    )


def _aws_place(
    configured: Configuration, request: WiringRequest, check: Check | None, person: TerminalConsole
) -> Place:
    if check is not None:
        raise ConfigurationError("a check is called by a local archive's validator only; leave it out")
    ports = deployments.ports(configured, request, person)
    return Place(
        name=deployments.archive_name(configured, request),
        archive=ports.archive,
        control=ports.control,
        pipeline=ports.pipeline,
        identity=ports.identity,
        limits=Limits(),
        clock=ports.clock,
        archive_limits=ports.limits,
        reconnect=ports.reconnect,
        strict_wire=True,
        settings=deployments.recorded_settings(configured),
        sources={"s3": ports.source},
        jobs=functools.partial(ports.batch, configured),
    )


def _s3_archive(url: str) -> Archive:
    from upload_adapters.aws.assembly import bucket_archive

    return bucket_archive(url)


def _no_place(url: str, request: WiringRequest, check: Check | None) -> Place:
    raise ConfigurationError(
        f"a delivery to AWS needs the archive's deployment file, not {quoted(url, 300)}: name it with --to mast.toml"
    )


def _s3_source(url: str) -> Source:
    from upload_adapters.aws.assembly import bucket_source

    return bucket_source(url)


@attrs.frozen
class Scheme:
    """What a URL's scheme stands for."""

    place: Callable[[str, WiringRequest, Check | None], Place]
    source: Callable[[str], Source]
    archive: Callable[[str], Archive]


SCHEMES: Final[dict[str, Scheme]] = {
    "file": Scheme(
        place=_local_place,
        source=lambda url: DirectorySource(directory_of(url)),
        archive=lambda url: DirectoryArchive(directory_of(url)),
    ),
    "s3": Scheme(place=_no_place, source=_s3_source, archive=_s3_archive),
}
"""Scheme of a URL -> the adapters behind it."""


def _scheme_of(url: str, *, as_source: bool = False) -> Scheme:
    name, separator, _ = url.partition("://")
    if separator and name in SCHEMES:
        return SCHEMES[name]
    if as_source:
        raise ConfigurationError(f"{quoted(url, 300)} names no source that is known here ({'://, '.join(SCHEMES)}://)")
    place = "/DIR" if separator else quote(os.path.abspath(url))
    ways = f"for a directory write file://{place}, for AWS name its deployment file, mast.toml"
    raise ConfigurationError(f"{quoted(url, 300)} names no archive that is known here; {ways}")


# --- what hosts and the core call ----------------------------------------------------------------


def wire(request: WiringRequest) -> Ports:
    """Ports for a delivery; where `request.to` is None, the environment variable UPLOAD_CORE_TO names the archive.

    Raises `ConfigurationError` for whatever cannot work.
    """
    to = request.to or os.environ.get(TO_VARIABLE)
    if not to:
        raise ConfigurationError(
            "no archive is named: name one with --to mast.toml or --to file:///DIR (to=... in a program), "
            f"or set the environment variable {TO_VARIABLE}"
        )
    journal = default_journal(request) if request.journal is None else Path(request.journal)
    settings: dict[str, str] = {}
    check = request.check
    if isinstance(check, str):
        settings["check"] = check
        settings["check_directory"] = os.getcwd()
        check = load_check(check, settings["check_directory"])
    if request.dispatch is not None:
        settings["dispatch"] = request.dispatch
    label = None if request.label is None else read_label(request.label)
    if label is not None:
        settings["label"] = label.path
    console = TerminalConsole()
    if deployments.is_deployment(to):
        place = _aws_place(deployments.load(to, request.settings), request, check, console)
    else:
        demand_no_settings(request.settings, to)
        place = _scheme_of(to).place(to, request, check)
    place.demand_usable()
    return _assembled(place, request, _source_for(place, request.source), journal, label, settings, console)


def wire_journal(journal: str | os.PathLike[str], overrides: Mapping[str, Any]) -> Ports:
    """Ports for the delivery that a journal recorded.

    `overrides` (check, label, browser, settings, dispatch, and to: a deployment file that has moved) replaces what it says, where not None.
    Raises `ConfigurationError` if there is no journal, or if what it names cannot be found any more.
    """
    created, source = recorded(Path(journal))
    settings: dict[str, str] = dict(created.settings)
    console = TerminalConsole()
    check, label_path = overrides.get("check"), overrides.get("label") or settings.get("label")
    if check is None and "check" in settings:
        check = settings["check"]
    if isinstance(check, str):
        check = load_check(check, settings.get("check_directory"))
    dispatch = overrides.get("dispatch") or settings.get("dispatch")
    request = attrs.evolve(_request_of(created, source, overrides, journal), dispatch=dispatch)
    label = None if label_path is None else read_label(label_path)
    place = _recorded_place(created, request, check, console)
    return _assembled(place, request, _source_for(place, source), Path(journal), label, settings, console)


def wire_archive(created: ev.DeliveryCreated, overrides: Mapping[str, Any]) -> Archive:
    """The archive of a delivery whose journal may be gone; `overrides` (browser, and `to`, if it has moved) as above.

    Raises `ConfigurationError` if it cannot be found any more.
    """
    request = _request_of(created, "", overrides, None)
    if request.to and not deployments.is_deployment(request.to):
        return _scheme_of(request.to).place(request.to, request, None).archive
    return _recorded_place(created, request, None, TerminalConsole()).archive


def _request_of(
    created: ev.DeliveryCreated, source: str, overrides: Mapping[str, Any], journal: str | os.PathLike[str] | None
) -> WiringRequest:
    return WiringRequest(
        created.dataset,
        created.delivery_id,
        "sample" if created.transfer_type == "sample" else "staging",
        source,
        overrides.get("to"),
        journal,
        browser=overrides.get("browser") is not False,
        settings=overrides.get("settings") or {},
    )


def _recorded_place(
    created: ev.DeliveryCreated, request: WiringRequest, check: Check | None, console: TerminalConsole
) -> Place:
    """The archive's side of a delivery that was begun before; raises `ConfigurationError` if it is another one now."""
    if not created.archive.startswith(deployments.SCHEME):
        demand_no_settings(request.settings, created.archive)
        return _scheme_of(created.archive).place(created.archive, request, check)
    configured = deployments.load_recorded(created.settings, request.to, request.settings)
    place = _aws_place(configured, request, check, console)
    deployments.demand_same(created.archive, place.name)
    return place


def demand_no_settings(settings: Mapping[str, str], archive: str) -> None:
    """Raises `ConfigurationError` if an archive that is no deployment is given settings of one."""
    if settings:
        raise ConfigurationError(
            f"{printable(next(iter(settings)), 100)} is a setting of a deployment (mast.toml); {printable(archive, 300)} has none"
        )


def dataframe(columns: Mapping[str, Sequence[Any]], library: str | None) -> Any:
    """Columns as a data frame; raises `ConfigurationError` if there is no library for it."""
    return frame_of(columns, library)


def open_source(source: str | os.PathLike[str] | Bucket) -> Source:
    """The read side of a path, of a URL or of a bucket; raises `ConfigurationError` if it is no readable place."""
    if isinstance(source, Bucket):
        return _scheme_of(source.url, as_source=True).source(source.url)
    if isinstance(source, str) and "://" in source:
        return _scheme_of(source, as_source=True).source(source)
    return DirectorySource(source)


def open_archive(bucket: Bucket) -> Archive:
    """A bucket as a destination; raises `ConfigurationError` if its URL names none."""
    return _scheme_of(bucket.url).archive(bucket.url)


def default_journal(request: WiringRequest, beside: str | os.PathLike[str] = "") -> Path:
    """Where a delivery's journal lies unless the host names another place; `beside` is a file or "" for here."""
    name = f"{request.dataset}-{request.delivery_id}-{request.transfer_type}"
    return Path(beside).absolute().parent / JOURNALS / name if beside else Path(JOURNALS).absolute() / name


# --- pieces --------------------------------------------------------------------------------------


def _source_for(place: Place, source: str | os.PathLike[str] | Bucket) -> Source:
    url = source.url if isinstance(source, Bucket) else source
    scheme, separator, _ = url.partition("://") if isinstance(url, str) else ("", "", "")
    if isinstance(url, str) and separator and scheme in place.sources:
        return place.sources[scheme](url)
    return open_source(source)


def _assembled(
    place: Place,
    request: WiringRequest,
    source: Source,
    journal: Path,
    label: Label | None,
    settings: Mapping[str, str],
    console: TerminalConsole,
) -> Ports:
    if label is not None:
        label.demand(request.dataset, request.delivery_id, as_written=not place.strict_wire)
    user, host = user_at_host()
    return Ports(
        journal=DirectoryJournal(journal),
        source=source,
        archive=place.archive,
        control=place.control,
        pipeline=place.pipeline,
        identity=place.identity,
        dispatcher=_dispatcher(place, request, source),
        console=console,
        clock=place.clock,
        dump=DirectoryStateDump(),
        index=functools.partial(
            build_table, allow_case_duplicates=request.allow_case_duplicates, strict_wire=place.strict_wire
        ),
        limits=place.limits,
        archive_limits=place.archive_limits,
        reconnect=place.reconnect,
        archive_name=place.name,
        label=None if label is None else label.data,
        agent_id=f"{user}@{host}:{secrets.token_hex(4)}",
        host=host,
        pid=os.getpid(),
        observers=[event_log.observer()],
        settings={**settings, **place.settings},
    )


def _dispatcher(place: Place, request: WiringRequest, source: Source) -> Dispatcher:
    """Where transfers run. Raises `ConfigurationError` if that is no place, or if its package is missing."""
    if request.dispatch is None or request.dispatch == THREADS:
        return ChannelDispatcher(place.clock)
    if request.dispatch == S3_BATCH:
        if place.jobs is None:
            raise ConfigurationError(
                f"--dispatch {S3_BATCH} copies to an archive in AWS, and {printable(place.name, 300)} is none; leave it out"
            )
        return place.jobs(source, ChannelDispatcher(place.clock))
    if find_spec("distributed") is None:
        raise ConfigurationError(
            "--dispatch dask needs the package distributed; install it: pip install 'upload-core[dask]'"
        )
    from upload_adapters.dask import DaskDispatcher, address_of

    delivery = f"{place.name} {request.dataset} {request.delivery_id} {request.transfer_type}"
    return DaskDispatcher(place.clock, address_of(request.dispatch), delivery=delivery)


def load_check(spec: str, directory: str | None) -> Check:
    """The callable that `package.module:function` names; `directory` is searched after everything installed.

    Raises `ConfigurationError` if there is no such callable.
    """
    module_name, separator, name = spec.partition(":")
    if not (separator and module_name and name):
        raise ConfigurationError(f"the check {quoted(spec, 200)} must be written package.module:function")
    if directory is not None and directory not in sys.path:
        sys.path.append(directory)
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, SyntaxError) as error:
        where = f" (looked in {directory} as well)" if directory else ""
        raise ConfigurationError(f"the check {quoted(spec, 200)} cannot be imported: {error}{where}") from error
    if not callable(found):
        raise ConfigurationError(f"the check {quoted(spec, 200)} is no function")
    check: Check = found
    return check


if TYPE_CHECKING:
    from upload_adapters import wiring

    _wiring: Wiring = wiring
