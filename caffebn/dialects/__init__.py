"""Dialects of batch normalisation in forks of Caffe and in other frameworks: recognised, converted, converted back.

`caffebn.bn.dialects` is the public name.
"""

from caffebn.dialects.convert import Conversion, DialectError, from_plain, speaks_dialect, to_plain, verdicts
from caffebn.dialects.neighbours import FRAMEWORKS, Parameters, from_framework, to_framework
from caffebn.dialects.recognise import Verdict
from caffebn.dialects.table import DIALECTS, PLAIN, Dialect

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
