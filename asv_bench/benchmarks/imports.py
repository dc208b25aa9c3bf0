"""How long it takes until caffebn is there; each measurement starts a Python of its own."""

from __future__ import annotations


class Imports:
    # a module is imported once by a process
    number = 1

    def timeraw_caffebn(self):
        return "import caffebn"

    def timeraw_numpy(self):
        """The share of NumPy in the above."""
        return "import numpy"

    def timeraw_cpu_kernels(self):
        return "import caffebn.ops; caffebn.ops.get('cpu')"

    def timeraw_command_line(self):
        return "import caffebn.cli"
