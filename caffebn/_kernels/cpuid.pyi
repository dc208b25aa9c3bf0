"""Types of pyx/cpuid.pyx."""

X86_64: bool
OPENMP: bool

def known() -> frozenset[str]: ...
def features() -> frozenset[str]: ...
