"""Dialects of batch normalisation: the public name of `caffebn.dialects`, which stands below the nets that use it."""

from caffebn.dialects import (
    DIALECTS,
    FRAMEWORKS,
    PLAIN,
    Conversion,
    Dialect,
    DialectError,
    Parameters,
    Verdict,
    from_framework,
    from_plain,
    speaks_dialect,
    to_framework,
    to_plain,
    verdicts,
)

__all__ = [
    "DIALECTS",
    "FRAMEWORKS",
    "PLAIN",
    "Conversion",
    "Dialect",
    "DialectError",
    "Parameters",
    "Verdict",
    "from_framework",
    "from_plain",
    "speaks_dialect",
    "to_framework",
    "to_plain",
    "verdicts",
]
