"""What a request's body is once its transfer coding is gone, and whether it is what its sender said it is."""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable

from tests.emulator.wire import Request, ServiceError


def crc32(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


# Those that the standard library computes; the others are refused rather than believed.
ALGORITHMS: dict[str, Callable[[bytes], bytes]] = {
    "CRC32": crc32,
    "SHA1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}
UNKNOWN_ALGORITHMS = {"CRC32C", "CRC64NVME"}


def header_of(algorithm: str) -> str:
    return f"x-amz-checksum-{algorithm.lower()}"


def checksum(algorithm: str, data: bytes) -> str:
    return base64.b64encode(ALGORITHMS[algorithm](data)).decode()


def known_algorithm(name: str) -> str:
    """The algorithm in upper case; raises for one that is not AWS's or not ours."""
    upper = name.upper()
    if upper in UNKNOWN_ALGORITHMS:
        raise ServiceError(501, "NotImplemented", f"this emulator does not compute {upper}")
    if upper not in ALGORITHMS:
        raise ServiceError(400, "InvalidRequest", f"checksum algorithm {name} is not supported")
    return upper


def decode(request: Request) -> None:
    """Take the aws-chunked coding off the body; its trailers become headers."""
    declared = request.headers.get("x-amz-content-sha256", "")
    codings = [coding.strip() for coding in request.headers.get("content-encoding", "").split(",") if coding.strip()]
    if "aws-chunked" not in codings and not declared.startswith("STREAMING-"):
        return
    data, trailers = _dechunk(request.body)
    length = request.headers.get("x-amz-decoded-content-length")
    if length is None:
        raise ServiceError(411, "MissingContentLength", "You must provide x-amz-decoded-content-length")
    if int(length) != len(data):
        raise ServiceError(400, "IncompleteBody", f"{length} bytes were announced, {len(data)} came")
    announced = {name.strip().lower() for name in request.headers.get("x-amz-trailer", "").split(",") if name.strip()}
    if announced - trailers.keys():
        raise ServiceError(400, "MalformedTrailerError", f"missing trailers: {sorted(announced - trailers.keys())}")
    request.headers.update({name: value for name, value in trailers.items() if name in announced})
    request.headers["content-encoding"] = ",".join(coding for coding in codings if coding != "aws-chunked")
    request.body = data


def _dechunk(raw: bytes) -> tuple[bytes, dict[str, str]]:
    parts: list[bytes] = []
    position = 0
    while True:
        end = raw.find(b"\r\n", position)
        if end < 0:
            raise ServiceError(400, "IncompleteBody", "the body ends inside a chunk")
        try:
            size = int(raw[position:end].partition(b";")[0], 16)
        except ValueError:
            raise ServiceError(400, "InvalidChunkSizeError", "a chunk's size is no number") from None
        position = end + 2
        if size == 0:
            break
        if len(raw) < position + size + 2:
            raise ServiceError(400, "IncompleteBody", "the body ends inside a chunk")
        parts.append(raw[position : position + size])
        position += size + 2
    trailers: dict[str, str] = {}
    for line in raw[position:].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            trailers[name.decode().strip().lower()] = value.decode().strip()
    return b"".join(parts), trailers


def verify_signed(request: Request) -> None:
    """Check the hash of the body as it was sent, unless it was left unsigned."""
    declared = request.headers.get("x-amz-content-sha256", "")
    if len(declared) == 64 and declared != hashlib.sha256(request.body).hexdigest():
        raise ServiceError(400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' does not match")


def verify(request: Request) -> dict[str, str]:
    """Check every digest that was asserted; returns checksum algorithm → value of the verified ones."""
    md5 = request.headers.get("content-md5")
    if (
        md5 is not None
        and _decoded(md5, 16, "Content-MD5") != hashlib.md5(request.body, usedforsecurity=False).digest()
    ):
        raise ServiceError(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
    asserted: dict[str, str] = {}
    for name in [*ALGORITHMS, *UNKNOWN_ALGORITHMS]:
        value = request.headers.get(header_of(name))
        if value is None:
            continue
        algorithm = known_algorithm(name)
        expected = ALGORITHMS[algorithm](request.body)
        if _decoded(value, len(expected), header_of(name)) != expected:
            raise ServiceError(
                400, "BadDigest", f"The {algorithm} you specified did not match the calculated checksum."
            )
        asserted[algorithm] = value
    if len(asserted) > 1:
        raise ServiceError(400, "InvalidRequest", "Expecting a single x-amz-checksum- header.")
    return asserted


def _decoded(value: str, size: int, header: str) -> bytes:
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != size:
        code = "InvalidDigest" if header == "Content-MD5" else "InvalidRequest"
        raise ServiceError(400, code, f"Value for {header} header is invalid.")
    return raw
