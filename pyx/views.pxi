# Every kernel module includes this.  A kernel that gets an array has to ask it for its buffer, which takes longer
# than a small kernel runs; a view that its own module has made it takes as it is.  ops/cpu/calls.py makes the views
# of a call that will be repeated.

from libc.stdint cimport int64_t as _int64

ctypedef fused _element:
    float
    double
    int
    _int64
    unsigned char

ctypedef fused _float:
    float
    double


def view1(_element[::1] x):
    """The array as a memory view of this module."""
    return x


def view2(_element[:, ::1] x):
    return x


def view3(_float[:, :, ::1] x):
    return x


def view4(_float[:, :, :, ::1] x):
    return x
