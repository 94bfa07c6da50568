"""S3 Batch Operations for one delivery, put together from the section [batch] of its deployment file.

Rule: what cannot work is refused before anything starts. Neither manifests nor reports can lie in a directory bucket, as
control buckets are (S3 User Guide, "Using Batch Operations with directory buckets"), so a bucket has to be named for them.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from upload_adapters.aws.batch_dispatcher import BatchDispatcher
from upload_adapters.aws.batch_jobs import BatchSettings, S3BatchJobs, control_client
from upload_adapters.aws.errors import AwsConfigurationError
from upload_adapters.aws.s3_source import S3Source, bucket_and_prefix
from upload_core.ports import Clock, Dispatcher, Source
from upload_core.text import printable
from upload_core.wire import Keys

if TYPE_CHECKING:
    from upload_adapters.aws.assembly import Settings
    from upload_adapters.aws.deployment import AwsDeployment

ROLE: Final = re.compile(r"arn:[a-z0-9-]+:iam::[0-9]{12}:role/[\w+=,.@/-]+")
"""ARN of a role (IAM User Guide, "IAM identifiers")."""
PREFIX: Final = re.compile(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*")
"""Characters that are safe in keys (S3 User Guide, "Naming Amazon S3 objects")."""
PREFIX_MAX: Final = 256


def batch_settings(settings: Settings, keys: Keys) -> BatchSettings:
    """How the jobs of a delivery are made; raises `ConfigurationError` for what is missing or cannot work."""
    for name in ("batch.role", "batch.bucket"):
        if not settings.text(name):
            raise AwsConfigurationError(
                f"--dispatch s3-batch needs {name.partition('.')[2]} under [batch] in the deployment file (or --set {name}=...); "
                "docs/how-to/s3-batch.md says what it is"
            )
    role, bucket, prefix = (settings.text(f"batch.{key}") for key in ("role", "bucket", "prefix"))
    if not ROLE.fullmatch(role):
        raise AwsConfigurationError(
            f"[batch] role is {printable(role, 200)!r}; write the ARN of a role: arn:aws:iam::123456789012:role/NAME"
        )
    if bucket.endswith("--x-s3"):
        raise AwsConfigurationError(
            f"[batch] bucket is {printable(bucket, 200)!r}, a directory bucket, where S3 reads no manifests and writes no "
            "reports; name a general purpose bucket"
        )
    if not PREFIX.fullmatch(prefix) or len(prefix) > PREFIX_MAX:
        raise AwsConfigurationError(f"[batch] prefix is {printable(prefix, 300)!r}; write names with / between them")
    place = f"{prefix}/{keys.dataset}-{keys.delivery_id}-{keys.transfer_type}"
    return BatchSettings(role, bucket, place, settings.number("batch.priority"), settings.number("batch.objects"))


def batch_dispatcher(
    settings: BatchSettings, deployment: AwsDeployment, source: Source, beside: Dispatcher, clock: Clock
) -> BatchDispatcher:
    """Has S3 Batch Operations copy from this source; what it cannot do goes `beside`.

    Raises `ConfigurationError` unless the source is a whole bucket: a job keeps the keys of what it copies.
    """
    if not isinstance(source, S3Source):
        raise AwsConfigurationError(
            f"--dispatch s3-batch copies from a bucket in S3, and {printable(source.name, 300)} is none; leave it out"
        )
    name, prefix = bucket_and_prefix(source.name)
    if prefix:
        raise AwsConfigurationError(
            f"--dispatch s3-batch keeps the keys of what it copies, and those in {printable(source.name, 300)} would have to "
            f"lose {printable(prefix, 300)!r}; deliver from s3://{name}, or leave it out: then each object is copied by itself"
        )
    jobs = S3BatchJobs(
        settings,
        lambda: control_client(deployment.connect, settings.account),
        functools.partial(deployment.named, settings.bucket),
        source=name,
        target=deployment.transfer,
    )
    return BatchDispatcher(clock, jobs, beside, objects_max=settings.objects_max)
