"""What AWS answers, in our words: one table from botocore's errors to ours, whether to try again, and whose fault it is.

Rule: whatever these adapters raise of ours is an `UploadClientError` and a botocore `ClientError` at once, and holds
nothing secret: S3 repeats session tokens and signatures in the errors it sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self

import attrs
import botocore.exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from upload_adapters.aws.quoted_requests import without_request
from upload_core import errors
from upload_core.effects import Fault
from upload_core.text import printable

SHOWN_FIELDS: Final = frozenset(
    {"Code", "Message", "Type", "BucketName", "Key", "Condition", "Resource", "ArgumentName"}
)
"""What is kept of the error that AWS sent; `Token-0`, `AWSAccessKeyId`, `StringToSign` and their like are not."""
MESSAGE_MAX: Final = 500


class AwsError(ClientError):  # type: ignore[misc]  # botocore has no types
    """Base of everything these adapters raise; `response` and `operation_name` are as on any `ClientError`."""

    def __init__(self, message: str, response: Mapping[str, Any] | None = None, operation_name: str = "") -> None:
        """Without a response of AWS's own, what is found wrong here is told as if it were one."""
        # Not ClientError's own: that one makes up the message from the response.
        Exception.__init__(self, message)
        if response is None:
            code = type(self).__name__.removeprefix("Aws").removesuffix("Error")
            response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {}}
        self.response = dict(response)
        self.operation_name = operation_name

    @property
    def code(self) -> str:
        """AWS's error code, or the name of botocore's exception where nobody answered, or what we found by ourselves."""
        return str(self.response.get("Error", {}).get("Code", ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.response, self.operation_name)


class AwsRefusedError(AwsError, errors.ArchiveError):
    """AWS refused the request for good."""


class AwsUnavailableError(AwsError, errors.ArchiveUnavailableError):
    """AWS or the way to it does not work now."""


class AwsSignInCutError(AwsError, errors.SignInCutError):
    """The way to AWS broke while a person signed in."""


class AwsPreconditionFailedError(AwsError, errors.PreconditionFailedError):
    """A conditional request found another object than the one named; nothing was written."""


class AwsOffsetConflictError(AwsError, errors.OffsetConflictError):
    """An append named another offset than the object's size; nothing was written."""


class AwsChecksumMismatchError(AwsError, errors.ChecksumMismatchError):
    """The bytes do not have the CRC32 that was asserted; nothing was stored."""

    relpath = expected = actual = ""

    @classmethod
    def of(cls, relpath: str, *, expected: str, actual: str) -> Self:
        """The error about this file, in the core's words."""
        made = cls(str(errors.ChecksumMismatchError(relpath, expected=expected, actual=actual)))
        made.relpath, made.expected, made.actual = relpath, expected, actual
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return *super().__reduce__(), {"relpath": self.relpath, "expected": self.expected, "actual": self.actual}


class AwsSourceError(AwsError, errors.SourceError):
    """A source file, or an object that is one, cannot be read as it was indexed."""


class AwsSourceMissingError(AwsError, errors.SourceMissingError):
    """The indexed object does not exist (any more)."""


class AwsSourceChangedError(AwsError, errors.SourceChangedError):
    """The source changed between being indexed and being stored; nothing was stored."""


class AwsIdentityError(AwsError, errors.IdentityError):
    """AWS does not accept who we are, or what we are allowed to do does not include this."""


class AwsConfigurationError(AwsError, errors.ConfigurationError):
    """A setting cannot work: a bucket, region, profile or parameter that does not exist."""


class AwsPipelineError(AwsError, errors.PipelineError):
    """The pipeline did not start."""


@attrs.frozen
class Meaning:
    """One row of the table: what to raise, whether the same request may succeed soon, whose fault it is, what to do."""

    error: type[AwsError]
    retry: bool
    fault: Fault
    advice: str


OVERLOADED = Meaning(AwsUnavailableError, True, Fault.WORLD, "AWS asks for patience; it is tried again")
BROKEN = Meaning(AwsUnavailableError, True, Fault.WORLD, "AWS has trouble; it is tried again")
UNREACHABLE = Meaning(AwsUnavailableError, True, Fault.WORLD, "AWS cannot be reached; check network and proxy settings")
CONFLICT = Meaning(
    AwsUnavailableError, True, Fault.WORLD, "another request was at work on the object; it is tried again"
)
DAMAGED = Meaning(AwsUnavailableError, True, Fault.WORLD, "bytes changed on their way; it is tried again")
SKEWED = Meaning(AwsUnavailableError, True, Fault.WORLD, "this machine's clock is wrong by minutes; set it")
OTHER_PARTS = Meaning(AwsUnavailableError, True, Fault.WORLD, "the store has other parts than it confirmed")
GONE = Meaning(AwsUnavailableError, True, Fault.WORLD, "the multipart upload is gone; the file is sent anew")
EXPIRED = Meaning(AwsIdentityError, True, Fault.IDENTITY, "the credentials have expired; sign in again, then resume")
DENIED = Meaning(
    AwsIdentityError, False, Fault.IDENTITY, "check the sign-in, its role, and the name of dataset and delivery"
)
NO_CREDENTIALS = Meaning(AwsIdentityError, False, Fault.IDENTITY, "sign in, or configure AWS credentials")
MISPLACED = Meaning(
    AwsConfigurationError, False, Fault.WORLD, "check region, dataset, delivery id and the deployment's settings"
)
MISCONFIGURED = Meaning(AwsConfigurationError, False, Fault.WORLD, "check the AWS settings of this machine")
UNTRUSTED = Meaning(
    AwsConfigurationError,
    False,
    Fault.WORLD,
    "the server's certificate is not trusted; a private CA goes to AWS_CA_BUNDLE",
)
PRECONDITION = Meaning(AwsPreconditionFailedError, False, Fault.FILE_FOR_GOOD, "the object is another one by now")
OFFSET = Meaning(AwsOffsetConflictError, False, Fault.FILE_FOR_GOOD, "the object has another size by now")
REFUSED = Meaning(AwsRefusedError, False, Fault.FILE_FOR_GOOD, "the same request will be refused again")

CODES: Final[Mapping[str, Meaning]] = {
    **dict.fromkeys(
        (
            "SlowDown",
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "BandwidthLimitExceeded",
            "LimitExceededException",
            "EC2ThrottledException",
            "ConcurrentModificationException",
        ),
        OVERLOADED,
    ),
    **dict.fromkeys(
        (
            "InternalError",
            "InternalFailure",
            "InternalServerError",
            "InternalErrorException",
            "ServiceException",
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "ExternalServiceException",
            "RequestTimeout",
            "RequestTimeoutException",
            "PriorRequestNotComplete",
            "EC2AccessDeniedException",
            "EC2UnexpectedException",
            "ENILimitReachedException",
            "EFSMountTimeoutException",
            "ResourceNotReadyException",
            "ResourceConflictException",
            "SnapStartTimeoutException",
            "SnapStartNotReadyException",
        ),
        BROKEN,
    ),
    **dict.fromkeys(("ConditionalRequestConflict", "OperationAborted"), CONFLICT),
    # What was asserted is what was read, so what came was something else.
    **dict.fromkeys(
        (
            "BadDigest",
            "XAmzContentSHA256Mismatch",
            "XAmzContentChecksumMismatch",
            "IncompleteBody",
            "InvalidChunkSizeError",
            "MalformedTrailerError",
        ),
        DAMAGED,
    ),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestInTheFuture", "RequestExpired"), SKEWED),
    "NoSuchUpload": GONE,
    "InvalidPart": OTHER_PARTS,
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), EXPIRED),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccessDeniedException",
            "AllAccessDisabled",
            "AccountProblem",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "InvalidToken",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "NotAuthorizedException",
            "NotSignedUp",
            "OptInRequired",
            "SignatureDoesNotMatch",
            "UnauthorizedAccess",
            "UnrecognizedClientException",
            "KMSAccessDeniedException",
        ),
        DENIED,
    ),
    **dict.fromkeys(
        (
            "NoSuchBucket",
            "InvalidBucketName",
            "PermanentRedirect",
            "Redirect",
            "TemporaryRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
            "ParameterNotFound",
            "ParameterVersionNotFound",
            "ResourceNotFoundException",
            "InvalidKeyId",
        ),
        MISPLACED,
    ),
    "PreconditionFailed": PRECONDITION,
    **dict.fromkeys(("IdempotencyException", "JobStatusException", "BadRequestException"), REFUSED),
    "InvalidWriteOffset": OFFSET,
    # A HEAD has no body and so no code; a 400 to a request that is right otherwise means the credentials.
    "400": EXPIRED,
}
"""By AWS's error code; what is not here is told by its status (`STATUSES`)."""

STATUSES: Final[tuple[tuple[range, Meaning], ...]] = (
    (range(500, 600), BROKEN),
    (range(429, 430), OVERLOADED),
    (range(412, 413), PRECONDITION),
    (range(409, 410), CONFLICT),
    (range(408, 409), BROKEN),
    (range(407, 408), UNREACHABLE),
    (range(401, 402), DENIED),
    (range(403, 404), DENIED),
    (range(300, 400), MISPLACED),
    (range(400, 500), REFUSED),
)
"""By HTTP status, the first range that holds it; a status outside all is `BROKEN`."""

EXCEPTIONS: Final[Mapping[str, Meaning]] = {
    **dict.fromkeys(
        (
            "HTTPClientError",
            "ConnectionError",
            "ConnectionClosedError",
            "ReadTimeoutError",
            "IncompleteReadError",
            "ResponseStreamingError",
            "ResponseParserError",
            "HTTPError",  # urllib3's, while a body is read
        ),
        UNREACHABLE,
    ),
    **dict.fromkeys(("ChecksumError", "FlexibleChecksumError"), DAMAGED),
    **dict.fromkeys(
        (
            "NoCredentialsError",
            "PartialCredentialsError",
            "CredentialRetrievalError",
            "MetadataRetrievalError",
            "NoAuthTokenError",
            "TokenRetrievalError",
            "SSOError",
            "LoginError",
            "RefreshWithMFAUnsupportedError",
            "UnknownCredentialError",
            "UnknownTokenProviderError",
        ),
        NO_CREDENTIALS,
    ),
    **dict.fromkeys(("ParamValidationError", "ValidationError", "MissingParametersError", "PaginationError"), REFUSED),
    **dict.fromkeys(("InvalidRegionError", "BotoCoreError", "UndefinedModelAttributeError"), MISCONFIGURED),
}
"""Where nobody answered: by the name of the exception's class, the nearest in its method resolution order.

By name, since botocore's releases do not all have the same.
"""


TIMEOUTS: Final = frozenset({"RequestTimeout", "RequestTimeoutException", "ReadTimeoutError", "ConnectTimeoutError"})
"""What an answer that did not come in time is called, by AWS and by botocore."""


ABOUT_TIME: Final = re.compile(r"expired|not yet current|request time", re.IGNORECASE)
"""What services that speak JSON say where S3 says `RequestTimeTooSkewed`; their code is that of any wrong signature."""


def cut_short(doing: str) -> AwsUnavailableError:
    """The error for an answer of which a part is missing; botocore gives out what came, as if that were all."""
    response = {"Error": {"Code": "IncompleteAnswer"}, "ResponseMetadata": {}}
    return AwsUnavailableError(f"{doing} failed (the answer was cut on its way); {UNREACHABLE.advice}", response)


def meaning_of(error: Exception) -> Meaning:
    """The row of the table for any exception of botocore."""
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        code = str(details.get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)
        if code == "InvalidSignatureException" and ABOUT_TIME.search(str(details.get("Message", ""))):
            return SKEWED
        if code in CODES:
            return CODES[code]
        return next((meaning for statuses, meaning in STATUSES if status in statuses), BROKEN)
    if isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return UNTRUSTED
    return next((EXCEPTIONS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in EXCEPTIONS), BROKEN)


def translate(error: Exception, doing: str, operation: str = "") -> AwsError:
    """Our error for one of botocore's; `doing` says what we were about, as in "storing 'a.fits'"."""
    if isinstance(error, AwsError):
        return error
    meaning = meaning_of(error)
    if isinstance(error, ClientError):
        details = {
            name: without_request(value)
            for name, value in error.response.get("Error", {}).items()
            if name in SHOWN_FIELDS
        }
        rest = {name: without_request(value) for name, value in error.response.items()}
        response = {"ResponseMetadata": {}, **rest, "Error": details}
        # Ours is raised from it, so it must not keep what is secret either.
        error.response = response
        error.args = tuple(without_request(each) for each in error.args)
        operation = operation or error.operation_name
    else:
        details = {"Code": type(error).__name__, "Message": without_request(str(error))}
        response = {"Error": details, "ResponseMetadata": {}}
    said = ": ".join(str(details[name]) for name in ("Code", "Message") if details.get(name))
    return meaning.error(f"{doing} failed ({printable(said, MESSAGE_MAX)}); {meaning.advice}", response, operation)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Whatever botocore raises inside comes out as ours; all else passes unchanged."""
    try:
        yield
    except AwsError:
        raise
    except (boto.BotoCoreError, ClientError, ResponseParserError, HTTPError) as error:
        raise translate(error, doing) from error
    except RuntimeError as error:
        if not str(error).startswith("Credentials were refreshed"):
            raise
        # botocore's only word for new credentials that are expired by this machine's clock
        details = {"Code": "ExpiredToken", "Message": f"{error} Check this machine's clock."}
        raise translate(ClientError({"Error": details}, ""), doing) from error


def was_damaged(error: Exception) -> bool:
    """Whether S3 refused because other bytes came than were sent: botocore takes that for the sender's fault."""
    return isinstance(error, AwsError) and CODES.get(error.code) is DAMAGED


def asks_for_patience(error: AwsError) -> bool:
    """Whether the store has more to do than it can: it says so, or does not answer in time."""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)
    return CODES.get(error.code) is OVERLOADED or status in (429, 503) or error.code in TIMEOUTS


def may_retry(error: Exception) -> bool:
    """Whether the same request may succeed soon."""
    if isinstance(error, errors.ArchiveUnavailableError):
        return True
    return isinstance(error, AwsError) and error.code in CODES and CODES[error.code].retry
