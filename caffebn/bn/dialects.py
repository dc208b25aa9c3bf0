"""Dialects of batch normalisation: the public name of `caffebn.dialects`, which stands below the nets that use it."""

from caffebn.dialects.convert import Conversion, DialectError, from_plain, to_plain, verdicts
from caffebn.dialects.neighbours import FRAMEWORKS, Parameters, from_framework, to_framework
from caffebn.dialects.recognise import Verdict
from caffebn.dialects.signs import PLAIN, speaks_dialect
from caffebn.dialects.table import DIALECTS, Dialect

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
