"""Sums and maps per channel of x (N, C, S): images, channels, places.

How work is cut.  Everything is a function of the shape alone, never of the number of threads.  There are two
layouts:

by row      S is 16 or more.  The S places of a channel of one image lie together, and one value per channel
            serves all of them.  A sum is cut into items of one channel, up to CHUNK places and up to 16 images
            (about 2048 elements, so that adding up the lanes costs little); a map into items of one row, or
            a CHUNK of it.
by column   S is less, mostly 1 (the output of InnerProduct).  x is read as a matrix with one column for each
            channel and place, repeated until it is 256 columns wide; vectors are spread over those columns
            and sums are kept for each of them.  An item is a TILE of columns of some rows.

A sum writes one partial sum per item (by row) or per item and column (by column), into memory handed in; these
are added in a fixed order.  Sums are read once, in double precision.  Kernels that need sums first and then
visit the tensor again (`moments`, `normalize_backward`) go by groups of channels small enough to be in the
cache the second time, as long as there are enough groups for all threads; the items are the same.

Tensors may be the same memory where the ops say so: an item reads element i before it writes element i.
"""

from cython.parallel cimport prange
from libc.math cimport sqrt

from common cimport LANES, ceil_div, real, total

cdef enum:
    CHUNK = 4096         # places of an item, by row
    TILE = 1024          # columns of an item, by column
    COLUMNS = 256        # least width of the matrix, by column
    GROUP = 32768        # elements of a group of channels

cdef enum Sum:
    VALUE                # x
    PRODUCT              # x * y
    DEVIATION            # (x - mean)**2


cdef struct Plan:
    Py_ssize_t channels, places, size
    bint by_column
    Py_ssize_t width         # length of the vectors: channels, or columns of the matrix
    Py_ssize_t rows          # images, or rows of the matrix, of an item of a sum
    Py_ssize_t blocks        # into which a channel, or a column, is cut by a sum
    Py_ssize_t tiles         # items of a sum for each block; of a map for each row of the matrix
    Py_ssize_t chunks        # into which a row is cut, by row
    Py_ssize_t map_items
    Py_ssize_t group         # channels of a group
    Py_ssize_t groups        # 0 by column


cdef struct Item:
    # the elements start + i * stride, ... of `length` each, below stop
    Py_ssize_t start, stride, stop, length
    Py_ssize_t column        # where its first value is in the vectors
    Py_ssize_t part          # where its first partial sum is


cdef Plan plan_of(Py_ssize_t N, Py_ssize_t C, Py_ssize_t S) noexcept nogil:
    cdef Plan p
    cdef Py_ssize_t repeat, matrix_rows
    p.channels, p.places, p.size = C, S, N * C * S
    p.by_column = S < LANES
    p.rows = p.blocks = p.tiles = p.chunks = p.map_items = p.group = p.groups = 0
    p.width = C
    if p.size == 0:
        return p
    if p.by_column:
        repeat = max(1, min(N, COLUMNS // (C * S)))
        p.width = repeat * C * S
        matrix_rows = ceil_div(N, repeat)
        p.rows = max(32, 65536 // p.width)
        p.blocks = ceil_div(matrix_rows, p.rows)
        p.tiles = ceil_div(p.width, TILE)
        p.map_items = matrix_rows * p.tiles
    else:
        p.rows = max(1, min(LANES, 2048 // S))
        p.chunks = ceil_div(S, CHUNK)
        p.blocks = ceil_div(N, p.rows) * p.chunks
        p.tiles = C
        p.map_items = N * C * p.chunks
        p.group = max(1, GROUP // (N * S))
        p.groups = ceil_div(C, p.group)
    return p


cdef inline Item sum_item(const Plan *p, Py_ssize_t i) noexcept nogil:
    """Item i of a sum; items of one block follow each other, so neighbours in memory are neighbours in time."""
    cdef Item item
    cdef Py_ssize_t block = i // p.tiles, tile = i % p.tiles, image = p.channels * p.places, first
    if p.by_column:
        first = block * p.rows * p.width
        item.column = tile * TILE
        item.start = first + item.column
        item.stride = p.width
        item.stop = min(first + p.rows * p.width, p.size)
        item.length = min(TILE, p.width - item.column)
    else:
        first = block // p.chunks * p.rows * image
        item.column = tile
        item.start = first + tile * p.places + block % p.chunks * CHUNK
        item.stride = image
        item.stop = min(first + p.rows * image, p.size)
        item.length = min(CHUNK, p.places - block % p.chunks * CHUNK)
    item.part = block * p.width + item.column
    return item


cdef inline Item map_item(const Plan *p, Py_ssize_t i) noexcept nogil:
    """Item i of a map: elements that follow each other in memory, and so do the items."""
    cdef Item item
    cdef Py_ssize_t row
    if p.by_column:
        row = i // p.tiles
        item.column = i % p.tiles * TILE
        item.start = row * p.width + item.column
        item.length = min(TILE, p.width - item.column, p.size - item.start)
    else:
        row = i // p.chunks
        item.column = row % p.channels
        item.start = row * p.places + i % p.chunks * CHUNK
        item.length = min(CHUNK, p.places - i % p.chunks * CHUNK)
    return item


cdef inline double term(Sum what, double x, double y, double mean) noexcept nogil:
    if what == VALUE:
        return x
    if what == PRODUCT:
        return x * y
    return (x - mean) * (x - mean)


cdef inline void add_item(
    Sum what, const Plan *p, Item item, const real *x, const real *y, const double *mean, double *part
) noexcept nogil:
    """Partial sums of one item; y and mean are read only where `what` needs them."""
    cdef double[LANES] lane
    cdef Py_ssize_t at, i, j, length, whole
    cdef double centre
    part += item.part
    if p.by_column:
        for j in range(item.length):
            part[j] = 0
        for at in range(item.start, item.stop, item.stride):
            for j in range(min(item.length, item.stop - at)):
                part[j] += term(what, x[at + j], y[at + j], mean[item.column + j])
    else:
        centre = mean[item.column]
        for j in range(LANES):
            lane[j] = 0
        whole = item.length - item.length % LANES
        for at in range(item.start, item.stop, item.stride):
            for i in range(at, at + whole, LANES):
                for j in range(LANES):
                    lane[j] += term(what, x[i + j], y[i + j], centre)
            for j in range(item.length - whole):
                lane[j] += term(what, x[at + whole + j], y[at + whole + j], centre)
        part[0] = total(lane)
