"""The BatchNorm workbench: fold, compare, lint, population statistics, dialects.

Each function is one command of ``caffebn``, too; docs/batchnorm.md shows them at work.
"""

from caffebn.bn.compare import compare
from caffebn.bn.fold import fold
from caffebn.bn.lint import lint
from caffebn.bn.stats import bn_stats

__all__ = ["bn_stats", "compare", "fold", "lint"]
