"""Which instruction-set extensions may be used here.

Compiled for any processor of the architecture: it must run before the level is known.
"""

cdef extern from "cpuid.h":
    struct caffebn_feature:
        const char* name
    const caffebn_feature caffebn_features[]
    const size_t caffebn_n_features
    const bint CAFFEBN_X86_64
    const bint CAFFEBN_OPENMP
    bint caffebn_has(const caffebn_feature* f)

#: Whether this is the x86-64 architecture, the only one with levels.
X86_64 = bool(CAFFEBN_X86_64)

#: Whether the kernels were compiled with OpenMP, and so use several threads.
OPENMP = bool(CAFFEBN_OPENMP)


def known():
    """Names of all extensions that `features` can report, as the compiler spells them (``-m<name>``)."""
    cdef size_t i
    return frozenset([caffebn_features[i].name.decode() for i in range(caffebn_n_features)])


def features():
    """Names of the extensions that this processor has and the operating system allows."""
    cdef size_t i
    return frozenset(
        [
            caffebn_features[i].name.decode()
            for i in range(caffebn_n_features)
            if caffebn_has(&caffebn_features[i])
        ]
    )
