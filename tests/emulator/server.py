"""The emulator as a server on a loopback port, and what a test reads and orders through it."""

import json
import socket
import struct
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import attrs

from tests.emulator import s3
from tests.emulator.batch import PATH as BATCH_PATH
from tests.emulator.batch import BatchOperations
from tests.emulator.credentials import AUTHORIZATION, Keyring
from tests.emulator.faults import Fault, FaultPlan
from tests.emulator.objects import Condition, ObjectStore, StoredObject
from tests.emulator.services import Functions, IdentityPools, Parameters, SecurityTokens, json_error, query_error
from tests.emulator.settings import Settings
from tests.emulator.tasks import Tasks
from tests.emulator.wire import Request, Response, ServiceError, http_date, split_target, xml_error

TARGETS = {
    "AmazonSSM": "ssm",
    "AWSCognitoIdentityService": "cognito-identity",
    "AWSCognitoIdentityProviderService": "cognito-idp",
    "AmazonEC2ContainerServiceV20141113": "ecs",
    "Logs_20140328": "logs",
    "AmazonSQS": "sqs",
}
LAMBDA_PREFIX = "/2015-03-31/functions/"


@attrs.frozen
class LogEntry:
    """One request as it was answered; status 0 stands for no answer."""

    number: int
    time: float
    service: str
    operation: str
    bucket: str
    key: str
    status: int
    code: str
    size: int
    fault: str
    headers: dict[str, str]
    query: dict[str, str]


class Emulator:
    """All services behind one URL: `with Emulator() as aws: boto3.client("s3", endpoint_url=aws.url)`.

    Starts at once on a free loopback port; `close` ends every connection.
    """

    def __init__(self, settings: Settings | None = None, *, port: int = 0) -> None:
        self.settings = settings or Settings()
        self._settings_at_start = attrs.evolve(self.settings)
        self.faults = FaultPlan()
        self.keyring = Keyring(self.settings)
        self.store = ObjectStore(self.settings)
        self.parameters = Parameters(self.keyring)
        self.functions = Functions(self.keyring)
        self.identity_pools = IdentityPools(self.settings, self.keyring)
        self.security_tokens = SecurityTokens(self.settings, self.keyring)
        self.tasks = Tasks(self.settings, self.keyring)
        self.batch = BatchOperations(self.settings, self.store, self.keyring)
        self._s3 = s3.S3(self.settings, self.store, self.keyring)
        self._others = {
            "ssm": self.parameters.handlers(),
            "lambda": self.functions.handlers(),
            "cognito-identity": self.identity_pools.handlers(),
            "sts": self.security_tokens.handlers(),
            "s3control": self.batch.handlers(),
            **self.tasks.handlers(),
        }
        self._log: list[LogEntry] = []
        self._log_lock = threading.Lock()
        self._closed = False
        self._over = threading.Event()
        self._server = _Server(self, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="emulator", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """What `AWS_ENDPOINT_URL` has to be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def connections(self) -> int:
        """How many connections were opened so far."""
        return self._server.accepted

    def environment(self) -> dict[str, str]:
        """Environment variables under which any boto3 program talks to this emulator."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIAEMULATOR",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_DEFAULT_REGION": self.settings.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def order(self, fault: Fault) -> Fault:
        """Make the fault happen; returns it, so that a test can see how often it was met."""
        return self.faults.add(fault)

    def release(self) -> None:
        """Let every held request take effect, whoever still waits for it; none is held from now on."""
        self.faults.release()

    def log(self, operation: str | None = None) -> list[LogEntry]:
        """All requests so far, or those of one operation."""
        with self._log_lock:
            return [entry for entry in self._log if operation in (None, entry.operation)]

    def object(self, bucket: str, key: str) -> StoredObject | None:
        """What the store holds, seen without a request."""
        with self.store.lock:
            return self.store.bucket(bucket).objects.get(key)

    def place(self, bucket: str, key: str, data: bytes) -> None:
        """Put an object there without a request."""
        self.store.put(bucket, key, data, Condition(), checksums={}, metadata={})

    def open_uploads(self) -> list[tuple[str, str]]:
        """Bucket and key of every multipart upload that was neither completed nor aborted."""
        with self.store.lock:
            return [
                (bucket.name, upload.key)
                for bucket in self.store.buckets.values()
                for upload in bucket.uploads.values()
            ]

    def reset(self) -> None:
        """Forget buckets, parameters, functions, faults and log, and turn every setting back; credentials stay.

        A request that a fault still keeps waiting is cut, and no log will know of it: whoever sent it is over.
        """
        over, self._over = self._over, threading.Event()
        over.set()
        with self.store.lock:
            self.store.buckets.clear()
        self.parameters.values.clear()
        self.functions.by_name.clear()
        self.identity_pools.revoked.clear()
        self.tasks.kill_all()
        self.tasks.tasks.clear()
        self.tasks.messages.clear()
        self.batch.reset()
        self.faults.clear()
        with self._log_lock:
            self._log.clear()
        for name, value in attrs.asdict(self._settings_at_start).items():
            setattr(self.settings, name, value)

    def close(self) -> None:
        """Stop answering; requests under way are cut. May be called twice."""
        if not self._closed:
            self._closed = True
            self._over.set()
            self.faults.release()
            self.tasks.kill_all()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- one request ------------------------------------------------------------------------------

    def arrive(self, request: Request) -> None:
        """Find out which service and operation a request is for, from its head alone."""
        target = request.headers.get("x-amz-target", "")
        if target:
            service, _, request.operation = target.rpartition(".")
            request.service = TARGETS.get(service, service)
        elif request.path.startswith(LAMBDA_PREFIX):
            name, _, action = request.path.removeprefix(LAMBDA_PREFIX).partition("/")
            request.service, request.key = "lambda", urllib.parse.unquote(name)
            request.operation = "Invoke" if action == "invocations" and request.method == "POST" else "Unknown"
        elif request.path.startswith(BATCH_PATH):
            self.batch.address(request)
        elif _signed_for(request) == "sts" or (request.method == "POST" and request.path == "/" and not request.query):
            request.service, request.operation = "sts", "Query"
        else:
            request.service = "s3"
            s3.address(request)
            self._s3.arrive(request)

    def answer(self, request: Request) -> Response:
        """Let the request take effect."""
        if request.service == "s3":
            return self._s3.handle(request)
        if request.service == "sts":
            request.operation = dict(urllib.parse.parse_qsl(request.body.decode())).get("Action", "Unknown")
        handler = self._others.get(request.service, {}).get(request.operation)
        try:
            if handler is None:
                raise ServiceError(501, "NotImplemented", f"unknown: {request.service} {request.operation}")
            return handler(request)
        except ServiceError as error:
            return self.refuse(request, error)

    def refuse(self, request: Request, error: ServiceError) -> Response:
        """The error in the service's own format."""
        if request.service in ("s3", "s3control"):
            return xml_error(error, resource=request.path, with_body=request.method != "HEAD")
        return query_error(error) if request.service == "sts" else json_error(error)

    def record(self, request: Request, status: int, code: str, fault: str) -> None:
        if request.over.is_set():
            return
        secret = ("authorization", "x-amz-security-token", "x-amz-s3session-token")
        headers = {name: value for name, value in request.headers.items() if name not in secret}
        with self._log_lock:
            self._log.append(
                LogEntry(
                    number=len(self._log) + 1,
                    time=self.settings.now(),
                    service=request.service,
                    operation=request.operation,
                    bucket=request.bucket,
                    key=request.key,
                    status=status,
                    code=code,
                    size=len(request.body),
                    fault=fault,
                    headers=headers,
                    query=request.query,
                )
            )

    @property
    def over(self) -> threading.Event:
        """Set as soon as the requests of now have nobody any more who waits for them."""
        return self._over

    # --- control over HTTP, for an emulator in another process ------------------------------------

    def control(self, method: str, path: str, body: bytes) -> Any:
        """What `/_faults`, `/_log`, `/_settings`, `/_buckets`, `/_parameters` and `/_credentials` answer."""
        said = json.loads(body) if body else {}
        match method, path:
            case "POST", "/_faults":
                return attrs.asdict(self.order(Fault(**said)))
            case "GET", "/_faults":
                return self.faults.listing()
            case "DELETE", "/_faults":
                self.faults.clear()
            case "GET", "/_log":
                return [attrs.asdict(entry) for entry in self.log()]
            case "GET", "/_tasks":
                return [task.process.lines() for task in self.tasks.alive()]
            case "DELETE", "/_tasks":
                self.tasks.kill_all()
            case "GET", "/_uploads":
                return self.open_uploads()
            case "POST", "/_settings":
                known = attrs.fields_dict(Settings)
                for name, value in said.items():
                    if name not in known:
                        raise KeyError(name)
                    setattr(self.settings, name, value)
                return attrs.asdict(self.settings)
            case "POST", "/_buckets":
                self.store.create_bucket(said["name"])
            case "POST", "/_parameters":
                self.parameters.values[said["name"]] = (said.get("type", "String"), said["value"])
            case "POST", "/_credentials":
                issued = self.keyring.issue(said.get("principal", "test"), float(said.get("lifetime_s", 3600)))
                return attrs.asdict(issued)
            case "DELETE", "/_credentials":
                self.keyring.expire_all()
            case _:
                raise KeyError(path)
        return {}


def _signed_for(request: Request) -> str:
    found = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    return found["service"] if found else ""


class _Server(ThreadingHTTPServer):
    """A thread for each connection; all connections are cut when the server closes."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, emulator: Emulator, port: int) -> None:
        self.emulator = emulator
        self._connections: set[socket.socket] = set()
        self.accepted = 0
        self._serving: set[threading.Thread] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", port), _Connection)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._connections.add(request)
            self.accepted += 1
            self._serving.add(threading.current_thread())
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                self._connections.discard(request)
                self._serving.discard(threading.current_thread())

    def server_close(self) -> None:
        super().server_close()
        with self._guard:
            open_now, threads = list(self._connections), list(self._serving)
        for connection in open_now:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the peer was quicker
        for thread in threads:
            thread.join(5)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went away is its own affair; anything else is a bug here and shows as a missing answer."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError | ValueError):
            super().handle_error(request, client_address)


class _HangUpError(ConnectionError):
    """End the connection now, without an answer."""


class _Connection(BaseHTTPRequestHandler):
    """Reads requests off one connection and acts out what the fault plan says of each."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def handle_expect_100(self) -> bool:
        """Ask for the body at once; the buffered answer has to be sent by hand."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def do_any(self) -> None:
        emulator = self.server.emulator
        path, query = split_target(self.path)
        request = Request(
            self.command,
            path,
            query,
            {name.lower(): value.strip() for name, value in self.headers.items()},
            over=emulator.over,
        )
        if path.startswith("/_"):
            self._control(emulator, request)
            return
        emulator.arrive(request)
        fault = emulator.faults.take(request.operation, request.bucket, request.key)
        try:
            self._serve(emulator, request, fault)
        except _HangUpError:
            emulator.record(request, 0, "", fault.kind if fault else "")
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any

    def _serve(self, emulator: Emulator, request: Request, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        if kind == "reset":
            self._reset(request)
        request.body = self._read_body(request)
        if kind == "corrupt" and request.body:
            middle = len(request.body) // 2
            request.body = request.body[:middle] + bytes([request.body[middle] ^ 1]) + request.body[middle + 1 :]
        if fault is not None and kind in ("hang", "late"):
            request.over.wait(fault.seconds)
        if fault is not None and kind == "held":
            emulator.faults.wait_for_release(fault)
        if kind == "hang" or request.over.is_set():
            raise _HangUpError
        if fault is not None and kind == "refused":
            response = emulator.refuse(request, fault.error())
        elif fault is not None and kind == "error_in_200":
            response = attrs.evolve(emulator.refuse(request, fault.error()), status=200)
        elif kind in ("duplicate", "duplicate_last"):
            # Reading the body changes a request, so the second has to be made anew.
            again = attrs.evolve(request, headers=dict(request.headers))
            first, second = emulator.answer(request), emulator.answer(again)
            response = first if kind == "duplicate" else second
        else:
            response = emulator.answer(request)
        if fault is not None and kind in ("lost", "hang_after"):
            if kind == "hang_after":
                request.over.wait(fault.seconds)
            raise _HangUpError
        emulator.record(request, response.status, response.code, kind)
        self._send(response, cut=kind == "truncated")

    def _read_body(self, request: Request) -> bytes:
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            return self._read_chunks()
        length = int(request.headers.get("content-length") or 0)
        data = self.rfile.read(length)
        if len(data) < length:
            raise _HangUpError  # the peer went away in the middle
        return data

    def _read_chunks(self) -> bytes:
        parts: list[bytes] = []
        while True:
            size = int(self.rfile.readline().partition(b";")[0] or b"0", 16)
            parts.append(self.rfile.read(size))
            self.rfile.readline()
            if size == 0:
                return b"".join(parts)

    def _reset(self, request: Request) -> None:
        self.rfile.read(int(request.headers.get("content-length") or 0) // 2)
        # Closing with a linger time of zero sends a reset instead of an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _HangUpError

    def _send(self, response: Response, *, cut: bool = False) -> None:
        self.send_response_only(response.status)
        self.send_header("Date", http_date(self.server.emulator.settings.now()))
        self.send_header("x-amz-request-id", "0" * 16)
        headers = dict(response.headers)
        if response.status not in (204, 304):
            headers.setdefault("content-length", str(len(response.body)))
        for name, value in headers.items():
            self.send_header(name, value.encode("utf-8").decode("latin-1"))
        self.end_headers()
        if cut:
            self.wfile.write(response.body[: len(response.body) // 2])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def _control(self, emulator: Emulator, request: Request) -> None:
        try:
            said = emulator.control(request.method, request.path, self._read_body(request))
            response = Response(200, {"content-type": "application/json"}, json.dumps(said).encode())
        except (KeyError, TypeError, ValueError, ServiceError) as error:
            response = Response(400, {"content-type": "text/plain"}, f"{type(error).__name__}: {error}".encode())
        self._send(response)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Nothing: the emulator keeps a log of its own."""
