"""S3's REST interface: from a request to one of AWS's operations, and from its result to XML."""

import hashlib
import re
import urllib.parse
import xml.etree.ElementTree as ET
from typing import Any

from tests.emulator import payload
from tests.emulator.credentials import Keyring
from tests.emulator.objects import Bucket, Checksum, Condition, ObjectStore, StoredObject, precondition_failed, quoted
from tests.emulator.settings import Settings
from tests.emulator.wire import (
    Handler,
    Request,
    Response,
    ServiceError,
    element,
    http_date,
    iso_date,
    text,
    texts,
    xml_error,
    xml_response,
)

# (method, is it about an object, a query key or header that must be there) → operation; the first that fits.
ROUTES: tuple[tuple[str, bool, str, str], ...] = (
    ("GET", False, "?session", "CreateSession"),
    ("GET", False, "?uploads", "ListMultipartUploads"),
    ("GET", False, "?location", "GetBucketLocation"),
    ("GET", False, "?list-type", "ListObjectsV2"),
    ("HEAD", False, "", "HeadBucket"),
    ("PUT", False, "", "CreateBucket"),
    ("DELETE", False, "", "DeleteBucket"),
    ("POST", False, "?delete", "DeleteObjects"),
    ("GET", True, "?uploadId", "ListParts"),
    ("GET", True, "?attributes", "GetObjectAttributes"),
    ("GET", True, "", "GetObject"),
    ("HEAD", True, "", "HeadObject"),
    ("POST", True, "?uploads", "CreateMultipartUpload"),
    ("POST", True, "?uploadId", "CompleteMultipartUpload"),
    ("DELETE", True, "?uploadId", "AbortMultipartUpload"),
    ("DELETE", True, "", "DeleteObject"),
    ("PUT", True, "?partNumber", "UploadPart"),
    ("PUT", True, "x-amz-copy-source", "CopyObject"),
    ("PUT", True, "", "PutObject"),
)
# Query keys that change nothing or are read by the handlers; any other is something this emulator does not know.
KNOWN_QUERY = {
    "session", "uploads", "location", "list-type", "delete", "uploadId", "attributes", "partNumber", "prefix", "delimiter",
    "max-keys", "continuation-token", "start-after", "encoding-type", "fetch-owner", "max-uploads", "key-marker",
    "upload-id-marker", "max-parts", "part-number-marker", "x-id",
}  # fmt: skip
FRONT_PAGE = "https://aws.amazon.com/s3/"
"""Where whoever asks S3 itself for something without a signature is sent, with an empty body."""
KEY_BYTES_MAX = 1024
SINGLE_PUT_MAX = 5 * 1024**3


def address(request: Request) -> None:
    """Find bucket, key and operation; unknown ones get an operation nobody handles."""
    path = request.path.lstrip("/")
    host = request.headers.get("host", "").partition(":")[0]
    if host.endswith(".localhost"):
        path = f"{host.removesuffix('.localhost')}/{path}"
    bucket, _, key = path.partition("/")
    request.bucket, request.key = urllib.parse.unquote(bucket), urllib.parse.unquote(key)
    if not request.bucket:
        request.operation = {"GET": "ListBuckets", "HEAD": "Head"}.get(request.method, "Unknown")
        return
    request.operation = "Unknown"
    for method, about_object, mark, operation in ROUTES:
        if method != request.method or about_object != bool(request.key):
            continue
        if mark.startswith("?") and mark[1:] not in request.query:
            continue
        if mark and not mark.startswith("?") and mark not in request.headers:
            continue
        request.operation = operation
        break
    if request.operation == "UploadPart" and "x-amz-copy-source" in request.headers:
        request.operation = "UploadPartCopy"


class S3:
    """Answers S3 requests out of an `ObjectStore`."""

    def __init__(self, settings: Settings, store: ObjectStore, keyring: Keyring) -> None:
        self._settings, self._store, self._keyring = settings, store, keyring
        self._handlers: dict[str, Handler] = {
            operation: getattr(self, "_" + re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower())
            for operation in [*(route[3] for route in ROUTES), "ListBuckets", "UploadPartCopy"]
        }

    def arrive(self, request: Request) -> None:
        """Note what a conditional write has to know of the moment its request began."""
        bucket = self._store.buckets.get(request.bucket)
        request.deletions_seen = bucket.deletions.get(request.key, 0) if bucket else 0

    def handle(self, request: Request) -> Response:
        try:
            return self._handle(request)
        except ServiceError as error:
            return xml_error(error, resource=request.path, with_body=request.method != "HEAD")

    def _handle(self, request: Request) -> Response:
        if request.operation == "Head":
            raise ServiceError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
        if request.operation == "ListBuckets" and "authorization" not in request.headers:
            return Response(307, {"location": FRONT_PAGE})
        self._keyring.principal(request)
        unknown = request.query.keys() - KNOWN_QUERY
        if request.operation == "Unknown" or unknown:
            raise ServiceError(501, "NotImplemented", f"this emulator does not know {request.method} {sorted(unknown)}")
        if len(request.key.encode()) > KEY_BYTES_MAX:
            raise ServiceError(400, "KeyTooLongError", "Your key is too long")
        payload.verify_signed(request)
        payload.decode(request)
        return self._handlers[request.operation](request)

    # --- buckets ----------------------------------------------------------------------------------

    def _list_buckets(self, request: Request) -> Response:
        with self._store.lock:
            found = [
                element("Bucket", text("Name", bucket.name), text("CreationDate", iso_date(bucket.created)))
                for bucket in sorted(self._store.buckets.values(), key=lambda bucket: bucket.name)
                if not bucket.is_directory
            ]
        return xml_response("ListAllMyBucketsResult", element("Buckets", *found))

    def _create_bucket(self, request: Request) -> Response:
        self._store.create_bucket(request.bucket)
        return Response(headers={"location": f"/{request.bucket}"})

    def _delete_bucket(self, request: Request) -> Response:
        with self._store.lock:
            if self._store.bucket(request.bucket).objects:
                raise ServiceError(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
            del self._store.buckets[request.bucket]
        return Response(204)

    def _head_bucket(self, request: Request) -> Response:
        self._store.bucket(request.bucket)
        return Response(headers={"x-amz-bucket-region": self._settings.region})

    def _get_bucket_location(self, request: Request) -> Response:
        self._store.bucket(request.bucket)
        region = "" if self._settings.region == "us-east-1" else self._settings.region
        return xml_response("LocationConstraint", region)

    def _create_session(self, request: Request) -> Response:
        if not self._store.bucket(request.bucket).is_directory:
            raise ServiceError(400, "InvalidRequest", "CreateSession is for directory buckets")
        if "x-amz-s3session-token" in request.headers:
            raise ServiceError(403, "AccessDenied", "Access Denied")
        issued = self._keyring.issue(request.access_key, self._settings.session_lifetime_s, request.bucket)
        fields = (
            ("SessionToken", issued.token),
            ("SecretAccessKey", issued.secret_key),
            ("AccessKeyId", issued.access_key),
            ("Expiration", iso_date(issued.expires)),
        )
        return xml_response("CreateSessionResult", element("Credentials", texts(fields)))

    # --- objects ----------------------------------------------------------------------------------

    def _put_object(self, request: Request) -> Response:
        self._store.bucket(request.bucket)
        checksums = payload.verify(request)
        if len(request.body) > SINGLE_PUT_MAX:
            raise ServiceError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
        metadata = _metadata(request)
        offset = request.headers.get("x-amz-write-offset-bytes")
        if offset is None:
            made = self._store.put(
                request.bucket, request.key, request.body, _condition(request), checksums=checksums, metadata=metadata
            )
            size = {}
        else:
            if not offset.isdigit():
                raise ServiceError(400, "InvalidArgument", "The write offset must be a whole number")
            made = self._store.append(
                request.bucket, request.key, request.body, int(offset), _condition(request),
                checksums=checksums, metadata=metadata,
            )  # fmt: skip
            size = {"x-amz-object-size": str(len(made.data))}
        return Response(headers={"etag": made.etag, **_checksum_headers(made.checksum), **size})

    def _head_object(self, request: Request) -> Response:
        found = self._read(request)
        headers = self._object_headers(request, found)
        headers["content-length"] = str(len(found.data))
        return Response(headers=headers)

    def _get_object(self, request: Request) -> Response:
        found = self._read(request)
        headers = self._object_headers(request, found)
        wanted = request.headers.get("range")
        span = _span(wanted, len(found.data)) if wanted else None
        if span is None:
            return Response(200, headers, found.data)
        start, end = span
        # The checksum is the whole object's; with a part of it, it would only mislead the reader.
        headers = {name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")}
        headers["content-range"] = f"bytes {start}-{end - 1}/{len(found.data)}"
        return Response(206, headers, found.data[start:end])

    def _read(self, request: Request) -> StoredObject:
        if "partNumber" in request.query:
            raise ServiceError(501, "NotImplemented", "this emulator does not read single parts")
        with self._store.lock:
            found = self._store.bucket(request.bucket).object(request.key)
        wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
        if wanted is not None and wanted != "*" and quoted(wanted) != found.etag:
            raise precondition_failed()
        if unwanted is not None and (unwanted == "*" or quoted(unwanted) == found.etag):
            raise ServiceError(304, "NotModified", "Not Modified")
        return found

    def _object_headers(self, request: Request, found: StoredObject) -> dict[str, str]:
        headers = {
            "etag": found.etag,
            "last-modified": http_date(found.modified),
            "accept-ranges": "bytes",
            "content-type": "binary/octet-stream",
            **found.metadata,
        }
        if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            headers |= _checksum_headers(found.checksum)
        return headers

    def _get_object_attributes(self, request: Request) -> Response:
        found = self._read(request)
        wanted = {name.strip() for name in request.headers.get("x-amz-object-attributes", "").split(",")}
        content = []
        if "ETag" in wanted:
            content.append(text("ETag", found.etag.strip('"')))
        if "Checksum" in wanted and found.checksum:
            content.append(element("Checksum", _checksum_xml(found.checksum)))
        if "ObjectSize" in wanted:
            content.append(text("ObjectSize", len(found.data)))
        headers = {"last-modified": http_date(found.modified)}
        return xml_response("GetObjectAttributesResponse", *content, headers=headers)

    def _delete_object(self, request: Request) -> Response:
        self._store.delete(request.bucket, request.key, request.headers.get("if-match"))
        return Response(204)

    def _delete_objects(self, request: Request) -> Response:
        payload.verify(request)
        answers = []
        for item in _children(_parsed(request.body), "Object"):
            key = _child_text(item, "Key") or ""
            try:
                self._store.delete(request.bucket, key, _child_text(item, "ETag"))
                answers.append(element("Deleted", text("Key", key)))
            except ServiceError as error:
                content = texts([("Key", key), ("Code", error.code), ("Message", error.message)])
                answers.append(element("Error", content))
        return xml_response("DeleteResult", *answers)

    def _copy_object(self, request: Request) -> Response:
        with self._store.lock:
            source_bucket, source_key, source = self._copy_source(request)
            if len(source.data) > SINGLE_PUT_MAX:
                raise ServiceError(400, "InvalidRequest", "The specified copy source is larger than the maximum size")
            replace = request.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
            algorithm = request.headers.get("x-amz-checksum-algorithm")
            onto_itself = (source_bucket.name, source_key) == (request.bucket, request.key)
            if onto_itself and not source_bucket.is_directory and not replace and algorithm is None:
                message = (
                    "This copy request is illegal because it is trying to copy an object to itself without a change"
                )
                raise ServiceError(400, "InvalidRequest", message)
            made = self._store.copy(
                source,
                request.bucket,
                request.key,
                _condition(request),
                algorithm=payload.known_algorithm(algorithm) if algorithm else None,
                metadata=_metadata(request) if replace else None,
            )
        fields = texts([("LastModified", iso_date(made.modified)), ("ETag", made.etag)])
        return xml_response("CopyObjectResult", fields, _checksum_xml(made.checksum))

    def _copy_source(self, request: Request) -> tuple[Bucket, str, StoredObject]:
        named = urllib.parse.unquote(request.headers["x-amz-copy-source"]).lstrip("/")
        bucket_name, _, key = named.partition("/")
        bucket = self._store.bucket(bucket_name)
        found = bucket.object(key)
        wanted = request.headers.get("x-amz-copy-source-if-match")
        unwanted = request.headers.get("x-amz-copy-source-if-none-match")
        if wanted is not None and wanted != "*" and quoted(wanted) != found.etag:
            raise precondition_failed()
        if unwanted is not None and quoted(unwanted) == found.etag:
            raise precondition_failed()
        return bucket, key, found

    # --- multipart uploads ------------------------------------------------------------------------

    def _create_multipart_upload(self, request: Request) -> Response:
        algorithm = request.headers.get("x-amz-checksum-algorithm", "")
        kind = request.headers.get("x-amz-checksum-type", "").upper()
        if algorithm:
            algorithm = payload.known_algorithm(algorithm)
            kind = kind or "COMPOSITE"
            if kind not in {"COMPOSITE", "FULL_OBJECT"} or (kind == "FULL_OBJECT" and algorithm != "CRC32"):
                raise ServiceError(400, "InvalidRequest", f"The {kind} checksum type cannot be used with {algorithm}")
        elif kind:
            raise ServiceError(400, "InvalidRequest", "A checksum type needs a checksum algorithm")
        upload = self._store.create_upload(
            request.bucket, request.key, algorithm=algorithm, kind=kind, metadata=_metadata(request)
        )
        fields = texts([("Bucket", request.bucket), ("Key", request.key), ("UploadId", upload.id)])
        headers = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind} if algorithm else {}
        return xml_response("InitiateMultipartUploadResult", fields, headers=headers)

    def _upload_part(self, request: Request) -> Response:
        checksums = payload.verify(request)
        if len(request.body) > SINGLE_PUT_MAX:
            raise ServiceError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
        part = self._store.put_part(
            request.bucket, request.key, request.query["uploadId"], _number(request.query["partNumber"], "partNumber"),
            request.body, checksums,
        )  # fmt: skip
        sums = {payload.header_of(algorithm): value for algorithm, value in part.checksums.items()}
        return Response(headers={"etag": part.etag, **sums})

    def _upload_part_copy(self, request: Request) -> Response:
        with self._store.lock:
            _, _, source = self._copy_source(request)
            data = source.data
            wanted = request.headers.get("x-amz-copy-source-range")
            if wanted is not None:
                found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
                if found is None or int(found[2]) >= len(data) or int(found[1]) > int(found[2]):
                    raise ServiceError(400, "InvalidArgument", f"The range {wanted} is not valid for the source object")
                data = data[int(found[1]) : int(found[2]) + 1]
            bucket = self._store.bucket(request.bucket)
            upload = bucket.upload(request.key, request.query["uploadId"])
            checksums = {upload.algorithm: payload.checksum(upload.algorithm, data)} if upload.algorithm else {}
            part = self._store.put_part(
                request.bucket,
                request.key,
                upload.id,
                _number(request.query["partNumber"], "partNumber"),
                data,
                checksums,
            )
        fields = texts([("LastModified", iso_date(part.modified)), ("ETag", part.etag)])
        sums = texts((f"Checksum{algorithm}", value) for algorithm, value in part.checksums.items())
        return xml_response("CopyPartResult", fields, sums)

    def _complete_multipart_upload(self, request: Request) -> Response:
        named = []
        for item in _children(_parsed(request.body), "Part"):
            checksums = {name: _child_text(item, f"Checksum{name}") or "" for name in payload.ALGORITHMS}
            given = {name: value for name, value in checksums.items() if value}
            number = _number(_child_text(item, "PartNumber") or "", "PartNumber")
            named.append((number, _child_text(item, "ETag") or "", given))
        asserted = {
            name: request.headers[payload.header_of(name)]
            for name in payload.ALGORITHMS
            if payload.header_of(name) in request.headers
        }
        size = request.headers.get("x-amz-mp-object-size")
        made = self._store.complete(
            request.bucket,
            request.key,
            request.query["uploadId"],
            named,
            _condition(request),
            asserted=asserted,
            kind=request.headers.get("x-amz-checksum-type"),
            size=_number(size, "x-amz-mp-object-size") if size is not None else None,
        )
        fields = texts([("Bucket", request.bucket), ("Key", request.key), ("ETag", made.etag)])
        return xml_response("CompleteMultipartUploadResult", fields, _checksum_xml(made.checksum))

    def _abort_multipart_upload(self, request: Request) -> Response:
        with self._store.lock:
            bucket = self._store.bucket(request.bucket)
            del bucket.uploads[bucket.upload(request.key, request.query["uploadId"]).id]
        return Response(204)

    def _list_parts(self, request: Request) -> Response:
        with self._store.lock:
            upload = self._store.bucket(request.bucket).upload(request.key, request.query["uploadId"])
            after = _number(request.query.get("part-number-marker") or "0", "part-number-marker")
            numbers = sorted(number for number in upload.parts if number > after)
            page = numbers[: self._page_size(request, "max-parts")]
            items = [
                element(
                    "Part",
                    texts(
                        [
                            ("PartNumber", number),
                            ("LastModified", iso_date(upload.parts[number].modified)),
                            ("ETag", upload.parts[number].etag),
                            ("Size", len(upload.parts[number].data)),
                            *((f"Checksum{name}", value) for name, value in upload.parts[number].checksums.items()),
                        ]
                    ),
                )
                for number in page
            ]
        fields = texts(
            [
                ("Bucket", request.bucket),
                ("Key", request.key),
                ("UploadId", upload.id),
                ("IsTruncated", len(page) < len(numbers)),
                ("NextPartNumberMarker", page[-1] if page else 0),
                ("ChecksumAlgorithm", upload.algorithm),
                ("ChecksumType", upload.kind),
            ]
        )
        return xml_response("ListPartsResult", fields, *items)

    def _list_multipart_uploads(self, request: Request) -> Response:
        prefix = self._prefix(request)
        with self._store.lock:
            uploads = sorted(
                (
                    upload
                    for upload in self._store.bucket(request.bucket).uploads.values()
                    if upload.key.startswith(prefix)
                ),
                key=lambda upload: (upload.key, upload.id),
            )
        marker = (request.query.get("key-marker", ""), request.query.get("upload-id-marker", ""))
        if marker[0]:
            # Without an upload id the marker stands for all uploads of its key.
            uploads = [u for u in uploads if ((u.key, u.id) > marker if marker[1] else u.key > marker[0])]
        page = uploads[: self._page_size(request, "max-uploads")]
        fields = texts(
            [
                ("Bucket", request.bucket),
                ("IsTruncated", len(page) < len(uploads)),
                ("NextKeyMarker", self._named(request, page[-1].key) if len(page) < len(uploads) else ""),
                ("NextUploadIdMarker", page[-1].id if len(page) < len(uploads) else ""),
                ("EncodingType", request.query.get("encoding-type", "")),
            ]
        )
        items = [
            element(
                "Upload",
                texts(
                    [
                        ("Key", self._named(request, upload.key)),
                        ("UploadId", upload.id),
                        ("Initiated", iso_date(upload.started)),
                        ("ChecksumAlgorithm", upload.algorithm),
                        ("ChecksumType", upload.kind),
                    ]
                ),
            )
            for upload in page
        ]
        return xml_response("ListMultipartUploadsResult", fields, *items)

    # --- listing ----------------------------------------------------------------------------------

    def _list_objects_v2(self, request: Request) -> Response:
        prefix = self._prefix(request)
        delimiter = request.query.get("delimiter", "")
        with self._store.lock:
            bucket = self._store.bucket(request.bucket)
            objects = dict(bucket.objects)
        if bucket.is_directory and delimiter not in ("", "/"):
            raise ServiceError(400, "InvalidArgument", "The only delimiter of directory buckets is /")
        entries: dict[str, StoredObject | None] = {}
        for key, found in objects.items():
            if not key.startswith(prefix):
                continue
            head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            entries[prefix + head + cut if cut else key] = None if cut else found
        # Directory buckets promise no order; this one is stable, so that pages fit together, and never sorted.
        order = (lambda name: hashlib.sha256(name.encode()).hexdigest()) if bucket.is_directory else str
        names = sorted(entries, key=order)
        token = request.query.get("continuation-token")
        after = (
            urllib.parse.unquote(token)
            if token
            else ""
            if bucket.is_directory
            else request.query.get("start-after", "")
        )
        if after:
            names = [name for name in names if order(name) > order(after)]
        page = names[: self._page_size(request, "max-keys")]
        truncated = len(page) < len(names)
        items = []
        for name in page:
            listed = entries[name]
            if listed is None:
                items.append(element("CommonPrefixes", text("Prefix", self._named(request, name))))
            else:
                fields = [
                    ("Key", self._named(request, name)),
                    ("LastModified", iso_date(listed.modified)),
                    ("ETag", listed.etag),
                    ("Size", len(listed.data)),
                    ("StorageClass", "EXPRESS_ONEZONE" if bucket.is_directory else "STANDARD"),
                ]
                items.append(element("Contents", texts(fields)))
        head_fields = texts(
            [
                ("Name", bucket.name),
                ("Prefix", self._named(request, prefix)),
                ("KeyCount", len(page)),
                ("MaxKeys", self._page_size(request, "max-keys")),
                ("IsTruncated", truncated),
                ("NextContinuationToken", urllib.parse.quote(page[-1]) if truncated and page else ""),
                ("EncodingType", request.query.get("encoding-type", "")),
            ]
        )
        return xml_response("ListBucketResult", head_fields, *items)

    def _prefix(self, request: Request) -> str:
        prefix = request.query.get("prefix", "")
        if prefix and self._store.bucket(request.bucket).is_directory and not prefix.endswith("/"):
            raise ServiceError(400, "InvalidArgument", "A prefix must end in the delimiter / in directory buckets")
        return prefix

    def _page_size(self, request: Request, name: str) -> int:
        return min(
            _number(request.query.get(name) or str(self._settings.list_page_max), name), self._settings.list_page_max
        )

    def _named(self, request: Request, name: str) -> str:
        return urllib.parse.quote(name, safe="/") if request.query.get("encoding-type") == "url" else name


def _condition(request: Request) -> Condition:
    return Condition(request.headers.get("if-match"), request.headers.get("if-none-match"), request.deletions_seen)


def _metadata(request: Request) -> dict[str, str]:
    kept = {name: value for name, value in request.headers.items() if name.startswith("x-amz-meta-")}
    return kept | ({"content-type": request.headers["content-type"]} if "content-type" in request.headers else {})


def _checksum_headers(checksum: Checksum | None) -> dict[str, str]:
    if checksum is None:
        return {}
    return {payload.header_of(checksum.algorithm): checksum.value, "x-amz-checksum-type": checksum.kind}


def _checksum_xml(checksum: Checksum | None) -> str:
    if checksum is None:
        return ""
    return text(f"Checksum{checksum.algorithm}", checksum.value) + text("ChecksumType", checksum.kind)


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """Start and end of a single range; None means that the header is to be ignored, as HTTP says of what is malformed."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted)
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        start, end = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    else:
        start, end = max(0, size - int(found[2])), size
    if start >= end:
        raise ServiceError(
            416, "InvalidRange", "The requested range is not satisfiable", {"content-range": f"bytes */{size}"}
        )
    return start, end


def _number(value: str, name: str) -> int:
    if not value.isdigit():
        raise ServiceError(400, "InvalidArgument", f"{name} must be a whole number")
    return int(value)


def _parsed(body: bytes) -> Any:
    try:
        return ET.fromstring(body)
    except ET.ParseError:
        raise ServiceError(400, "MalformedXML", "The XML you provided was not well-formed") from None


def _children(root: Any, name: str) -> list[Any]:
    return [child for child in root if child.tag.rpartition("}")[2] == name]


def _child_text(root: Any, name: str) -> str | None:
    found = _children(root, name)
    return found[0].text if found else None
