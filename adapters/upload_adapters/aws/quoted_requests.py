"""What AWS quotes of a request in the errors that it sends, cut out of them: it holds the session's token."""

from __future__ import annotations

import re
from typing import Any, Final

_QUOTED: Final = re.compile(r"\s*The (Canonical String|String-to-Sign) (for this request )?should have been.*", re.S)
_SECRET: Final = re.compile(r"(x-amz-(?:security|s3session)-token\s*[:=]\s*|signature=)[^\s&,'\"]*", re.I)


def without_request(said: Any) -> Any:
    """What AWS said without the request that it quotes; what is no text stays as it is.

    A wrong signature is answered with the request as AWS would have signed it, and in it the session's token
    ("Troubleshooting Signature Version 4", docs.aws.amazon.com/IAM).

    >>> without_request("No. The Canonical String for this request should have been 'x-amz-security-token:abc'")
    'No.'
    >>> without_request("odd: x-amz-security-token:abc, host")
    'odd: x-amz-security-token:***, host'
    """
    return _SECRET.sub(r"\1***", _QUOTED.sub("", said)) if isinstance(said, str) else said
