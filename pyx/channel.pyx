"""Sums and maps per channel of x (N, C, S): images, channels, places.

How work is cut.  Everything is a function of the shape alone, never of the number of threads.  There are two
layouts:

by row      S is 16 or more.  The S places of a channel of one image lie together, and one value per channel
            serves all of them.  A sum is cut into items of one channel, up to CHUNK places and up to 16
            images (about 2048 elements, so that adding up the lanes costs little); a map into items of one
            row, or a CHUNK of it.
by column   S is less, mostly 1 (the output of InnerProduct).  x is read as a matrix with one column for each
            channel and place, repeated until it is 256 columns wide; vectors are spread over those columns
            and sums are kept for each of them.  An item is a TILE of columns of some rows.

A sum reads its tensors once and writes one double per item (by row) or per item and column (by column) into
memory handed in; these partial sums are added in a fixed order.  Kernels that need sums first and then visit
the tensor again (`moments`, `normalize_backward`) go by groups of channels that are still in the cache the
second time, as long as there are enough groups for all threads; the items are the same either way.

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
    # `count` runs of elements: at start, start + stride, ..., each of `length`, the last cut at the end of x
    Py_ssize_t start, stride, count, length
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
    """Item i of a sum; the items of one block follow each other, as they do in memory."""
    cdef Item item
    cdef Py_ssize_t block = i // p.tiles, tile = i % p.tiles, image = p.channels * p.places, first
    if p.by_column:
        first = block * p.rows * p.width
        item.column = tile * TILE
        item.start = first + item.column
        item.stride = p.width
        item.count = ceil_div(min(first + p.rows * p.width, p.size) - item.start, p.width)
        item.length = min(TILE, p.width - item.column)
    else:
        first = block // p.chunks * p.rows * image
        item.column = tile
        item.start = first + tile * p.places + block % p.chunks * CHUNK
        item.stride = image
        item.count = min(p.rows, (p.size - first) // image)
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


cdef inline double term(Sum what, const real *x, const real *y, const double *mean) noexcept nogil:
    cdef double d
    if what == VALUE:
        return x[0]
    if what == PRODUCT:
        return <double> x[0] * y[0]
    d = x[0] - mean[0]
    return d * d


cdef inline void add_item(
    Sum what, const Plan *p, Item item, const real *x, const real *y, const double *mean, double *part
) noexcept nogil:
    """Partial sums of one item; only a PRODUCT reads y, only a DEVIATION reads mean."""
    cdef double[LANES] lane
    cdef Py_ssize_t run, at, i, j
    part += item.part
    mean += item.column
    if p.by_column:
        for j in range(item.length):
            part[j] = 0
        for run in range(item.count):
            at = item.start + run * item.stride
            for j in range(min(item.length, p.size - at)):
                part[j] += term(what, x + at + j, y + at + j, mean + j)
    else:
        for j in range(LANES):
            lane[j] = 0
        for run in range(item.count):
            at = item.start + run * item.stride
            for i in range(item.length // LANES):
                for j in range(LANES):
                    lane[j] += term(what, x + at + i * LANES + j, y + at + i * LANES + j, mean)
            at += item.length - item.length % LANES
            for j in range(item.length % LANES):
                lane[j] += term(what, x + at + j, y + at + j, mean)
        part[0] = total(lane)


cdef inline void add_group(
    Sum what, const Plan *p, Py_ssize_t c0, Py_ssize_t c1,
    const real *x, const real *y, const double *mean, double *part,
) noexcept nogil:
    """Partial sums of the channels from c0 to c1, by row."""
    cdef Py_ssize_t block, c
    for block in range(p.blocks):
        for c in range(c0, c1):
            add_item(what, p, sum_item(p, block * p.channels + c), x, y, mean, part)


cdef double channel_total(const Plan *p, Py_ssize_t c, const double *part) noexcept nogil:
    """The partial sums of a channel, added up."""
    cdef Py_ssize_t block, r, s, at, image = p.channels * p.places
    cdef double result = 0
    for block in range(p.blocks):
        if p.by_column:
            for r in range(p.width // image):
                at = block * p.width + r * image + c * p.places
                for s in range(p.places):
                    result += part[at + s]
        else:
            result += part[block * p.width + c]
    return result


cdef void spread(const Plan *p, const real *vector, real *out) noexcept nogil:
    """Write a vector over the channels such that `item.column` is an index into it."""
    cdef Py_ssize_t r, c, s
    if p.by_column:
        for r in range(p.width // (p.channels * p.places)):
            for c in range(p.channels):
                for s in range(p.places):
                    out[(r * p.channels + c) * p.places + s] = vector[c]
    else:
        for c in range(p.channels):
            out[c] = vector[c]


def scratch_size(Py_ssize_t N, Py_ssize_t C, Py_ssize_t S):
    """Elements of the array `work` that the kernels need for tensors (N, C, S)."""
    cdef Plan p = plan_of(N, C, S)
    return C + 2 * p.blocks * p.width + 3 * p.width


def channel_sum(const real[:, :, ::1] x, double[::1] work, int n_threads):
    """work[c] = sum of x[:, c, :]; what lies behind in work is overwritten."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    cdef Py_ssize_t i, c
    if p.size == 0:
        for c in range(p.channels):
            work[c] = 0
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef double *part = &work[p.channels]
    for i in prange(p.blocks * p.tiles, nogil=True, num_threads=n_threads, schedule="static"):
        add_item(VALUE, &p, sum_item(&p, i), x_data, x_data, part, part)
    for c in range(p.channels):
        work[c] = channel_total(&p, c, part)


def channel_dot(const real[:, :, ::1] x, const real[:, :, ::1] y, double[::1] work, int n_threads):
    """work[c] = sum of x[:, c, :] * y[:, c, :]; what lies behind in work is overwritten."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    cdef Py_ssize_t i, c
    if p.size == 0:
        for c in range(p.channels):
            work[c] = 0
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef const real *y_data = &y[0, 0, 0]
    cdef double *part = &work[p.channels]
    for i in prange(p.blocks * p.tiles, nogil=True, num_threads=n_threads, schedule="static"):
        add_item(PRODUCT, &p, sum_item(&p, i), x_data, y_data, part, part)
    for c in range(p.channels):
        work[c] = channel_total(&p, c, part)


def moments(
    const real[:, :, ::1] x, double[::1] mean_out, double[::1] var_out, double[::1] work, int n_threads
):
    """Mean and biased variance of each channel, in two passes."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    cdef Py_ssize_t i, c
    if p.size == 0:
        for c in range(p.channels):
            mean_out[c] = var_out[c] = 0
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef double *part = &work[p.channels]
    cdef double *means = part + p.blocks * p.width
    cdef double count = x.shape[0] * x.shape[2]
    if p.groups >= 2 * n_threads:
        for i in prange(p.groups, nogil=True, num_threads=n_threads, schedule="static"):
            moments_of_group(&p, i, x_data, count, &mean_out[0], &var_out[0], part)
    else:
        for i in prange(p.blocks * p.tiles, nogil=True, num_threads=n_threads, schedule="static"):
            add_item(VALUE, &p, sum_item(&p, i), x_data, x_data, part, part)
        for c in range(p.channels):
            mean_out[c] = channel_total(&p, c, part) / count
        spread(&p, <const double *> &mean_out[0], means)
        for i in prange(p.blocks * p.tiles, nogil=True, num_threads=n_threads, schedule="static"):
            add_item(DEVIATION, &p, sum_item(&p, i), x_data, x_data, means, part)
        for c in range(p.channels):
            var_out[c] = channel_total(&p, c, part) / count


cdef void moments_of_group(
    const Plan *p, Py_ssize_t group, const real *x, double count, double *mean, double *var, double *part
) noexcept nogil:
    cdef Py_ssize_t c0 = group * p.group, c1 = min(c0 + p.group, p.channels), c
    add_group(VALUE, p, c0, c1, x, x, mean, part)
    for c in range(c0, c1):
        mean[c] = channel_total(p, c, part) / count
    add_group(DEVIATION, p, c0, c1, x, x, mean, part)
    for c in range(c0, c1):
        var[c] = channel_total(p, c, part) / count


def inv_std(const double[::1] var, double eps, double[::1] out):
    """out = 1 / sqrt(var + eps)."""
    cdef Py_ssize_t c
    for c in range(var.shape[0]):
        out[c] = 1 / sqrt(var[c] + eps)


def inv_deviation(const double[::1] var, double eps, double[::1] out):
    """out = 1 / (sqrt(var) + eps)."""
    cdef Py_ssize_t c
    for c in range(var.shape[0]):
        out[c] = 1 / (sqrt(var[c]) + eps)


def stored_statistics(
    const real[::1] sum_mean, const real[::1] sum_var, const real[::1] factor,
    double[::1] mean_out, double[::1] var_out,
):
    """mean_out = sum_mean / factor, var_out = sum_var / factor; zeros when the factor is 0."""
    cdef Py_ssize_t c
    cdef double f = factor[0]
    for c in range(sum_mean.shape[0]):
        mean_out[c] = sum_mean[c] / f if f != 0 else 0
        var_out[c] = sum_var[c] / f if f != 0 else 0


def update_statistics(
    const double[::1] mean, const double[::1] var, Py_ssize_t count, double fraction,
    real[::1] sum_mean, real[::1] sum_var, real[::1] factor,
):
    """factor = b factor + 1, sum_mean = b sum_mean + mean, sum_var = b sum_var + m / (m - 1) var."""
    cdef Py_ssize_t c
    cdef double k = <double> count / (count - 1) if count > 1 else 1
    factor[0] = <real> (fraction * factor[0] + 1)
    for c in range(mean.shape[0]):
        sum_mean[c] = <real> (fraction * sum_mean[c] + mean[c])
        sum_var[c] = <real> (fraction * sum_var[c] + k * var[c])


def normalize(
    const real[:, :, ::1] x, const double[::1] mean, const double[::1] inv_std, real[:, :, ::1] y,
    double[::1] work, int n_threads,
):
    """y = (x - mean[c]) * inv_std[c], in double precision: a large mean must not cost digits."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    if p.size == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef real *y_data = &y[0, 0, 0]
    cdef double *means = &work[0]
    cdef double *factors = means + p.width
    cdef Py_ssize_t i
    spread(&p, &mean[0], means)
    spread(&p, &inv_std[0], factors)
    for i in prange(p.map_items, nogil=True, num_threads=n_threads, schedule="static"):
        normalize_item(&p, map_item(&p, i), x_data, means, factors, y_data)


cdef inline void normalize_item(
    const Plan *p, Item item, const real *x, const double *mean, const double *inv_std, real *y
) noexcept nogil:
    cdef Py_ssize_t j
    cdef double m, s
    x += item.start
    y += item.start
    mean += item.column
    inv_std += item.column
    if p.by_column:
        for j in range(item.length):
            y[j] = <real> ((x[j] - mean[j]) * inv_std[j])
    else:
        m, s = mean[0], inv_std[0]
        for j in range(item.length):
            y[j] = <real> ((x[j] - m) * s)


cdef struct Backward:
    # vectors over the channels, spread
    double *mean_dy
    double *mean_dy_y
    double *inv_std


def normalize_backward(
    const real[:, :, ::1] dy, const real[:, :, ::1] y, const double[::1] inv_std, real[:, :, ::1] dx,
    double[::1] work, int n_threads,
):
    """dx = (dy - mean(dy) - y * mean(dy * y)) * inv_std[c]."""
    cdef Plan p = plan_of(y.shape[0], y.shape[1], y.shape[2])
    if p.size == 0:
        return
    cdef const real *dy_data = &dy[0, 0, 0]
    cdef const real *y_data = &y[0, 0, 0]
    cdef real *dx_data = &dx[0, 0, 0]
    cdef double *totals = &work[0]
    cdef double *part = &work[p.channels]
    cdef double *part_y = part + p.blocks * p.width
    cdef Backward v
    cdef double count = y.shape[0] * y.shape[2]
    cdef Py_ssize_t i, c
    v.mean_dy = part_y + p.blocks * p.width
    v.mean_dy_y = v.mean_dy + p.width
    v.inv_std = v.mean_dy_y + p.width
    spread(&p, &inv_std[0], v.inv_std)
    if p.groups >= 2 * n_threads:
        for i in prange(p.groups, nogil=True, num_threads=n_threads, schedule="static"):
            backward_of_group(&p, i, dy_data, y_data, count, v, dx_data, part, part_y)
    else:
        for i in prange(p.blocks * p.tiles, nogil=True, num_threads=n_threads, schedule="static"):
            add_item(VALUE, &p, sum_item(&p, i), dy_data, y_data, part, part)
            add_item(PRODUCT, &p, sum_item(&p, i), dy_data, y_data, part, part_y)
        for c in range(p.channels):
            totals[c] = channel_total(&p, c, part) / count
        spread(&p, <const double *> totals, v.mean_dy)
        for c in range(p.channels):
            totals[c] = channel_total(&p, c, part_y) / count
        spread(&p, <const double *> totals, v.mean_dy_y)
        for i in prange(p.map_items, nogil=True, num_threads=n_threads, schedule="static"):
            backward_item(&p, map_item(&p, i), dy_data, y_data, v, dx_data)


cdef void backward_of_group(
    const Plan *p, Py_ssize_t group, const real *dy, const real *y, double count, Backward v, real *dx,
    double *part, double *part_y,
) noexcept nogil:
    cdef Py_ssize_t c0 = group * p.group, c1 = min(c0 + p.group, p.channels), c, image, i
    cdef Py_ssize_t items = p.channels * p.chunks   # of one image
    add_group(VALUE, p, c0, c1, dy, y, part, part)
    add_group(PRODUCT, p, c0, c1, dy, y, part, part_y)
    for c in range(c0, c1):
        v.mean_dy[c] = channel_total(p, c, part) / count
        v.mean_dy_y[c] = channel_total(p, c, part_y) / count
    for image in range(p.map_items // items):
        for i in range(c0 * p.chunks, c1 * p.chunks):
            backward_item(p, map_item(p, image * items + i), dy, y, v, dx)


cdef inline void backward_item(
    const Plan *p, Item item, const real *dy, const real *y, Backward v, real *dx
) noexcept nogil:
    cdef Py_ssize_t j
    cdef double a, b, s
    dy += item.start
    y += item.start
    dx += item.start
    v.mean_dy += item.column
    v.mean_dy_y += item.column
    v.inv_std += item.column
    if p.by_column:
        for j in range(item.length):
            dx[j] = <real> ((dy[j] - v.mean_dy[j] - y[j] * v.mean_dy_y[j]) * v.inv_std[j])
    else:
        a, b, s = v.mean_dy[0], v.mean_dy_y[0], v.inv_std[0]
        for j in range(item.length):
            dx[j] = <real> ((dy[j] - a - y[j] * b) * s)


def affine(
    const real[:, :, ::1] x, const real[::1] scale, const real[::1] shift, real[:, :, ::1] y,
    double[::1] work, int n_threads,
):
    """y = x * scale[c] + shift[c]; scale and shift may be None."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    if p.size == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef real *y_data = &y[0, 0, 0]
    cdef real *scales = <real *> &work[0]
    cdef real *shifts = scales + p.width
    cdef Py_ssize_t i
    if scale is not None:
        spread(&p, &scale[0], scales)
    else:
        for i in range(p.width):
            scales[i] = 1
    if shift is not None:
        spread(&p, &shift[0], shifts)
    else:
        # unlike 0, adding -0 leaves every number as it is, -0 too
        for i in range(p.width):
            shifts[i] = -0.0
    for i in prange(p.map_items, nogil=True, num_threads=n_threads, schedule="static"):
        affine_item(&p, map_item(&p, i), x_data, scales, shifts, y_data)


cdef inline void affine_item(
    const Plan *p, Item item, const real *x, const real *scale, const real *shift, real *y
) noexcept nogil:
    cdef Py_ssize_t j
    cdef real a, b
    x += item.start
    y += item.start
    scale += item.column
    shift += item.column
    if p.by_column:
        for j in range(item.length):
            y[j] = x[j] * scale[j] + shift[j]
    else:
        a, b = scale[0], shift[0]
        for j in range(item.length):
            y[j] = x[j] * a + b


def prelu(
    const real[:, :, ::1] x, const real[::1] slope, real[:, :, ::1] y, double[::1] work, int n_threads
):
    """y = x where x > 0, else x * slope[c]."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    if p.size == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef real *y_data = &y[0, 0, 0]
    cdef real *slopes = <real *> &work[0]
    cdef Py_ssize_t i
    spread(&p, &slope[0], slopes)
    for i in prange(p.map_items, nogil=True, num_threads=n_threads, schedule="static"):
        prelu_item(&p, map_item(&p, i), x_data, x_data, slopes, y_data)


def prelu_backward(
    const real[:, :, ::1] x, const real[:, :, ::1] dy, const real[::1] slope, real[:, :, ::1] dx,
    double[::1] work, int n_threads,
):
    """dx = dy where x > 0, else dy * slope[c]."""
    cdef Plan p = plan_of(x.shape[0], x.shape[1], x.shape[2])
    if p.size == 0:
        return
    cdef const real *x_data = &x[0, 0, 0]
    cdef const real *dy_data = &dy[0, 0, 0]
    cdef real *dx_data = &dx[0, 0, 0]
    cdef real *slopes = <real *> &work[0]
    cdef Py_ssize_t i
    spread(&p, &slope[0], slopes)
    for i in prange(p.map_items, nogil=True, num_threads=n_threads, schedule="static"):
        prelu_item(&p, map_item(&p, i), x_data, dy_data, slopes, dx_data)


cdef inline void prelu_item(
    const Plan *p, Item item, const real *x, const real *value, const real *slope, real *y
) noexcept nogil:
    """y = value where x > 0, else value * slope."""
    cdef Py_ssize_t j
    cdef real a, b
    x += item.start
    value += item.start
    y += item.start
    slope += item.column
    if p.by_column:
        for j in range(item.length):
            b = value[j] * slope[j]
            y[j] = value[j] if x[j] > 0 else b
    else:
        a = slope[0]
        for j in range(item.length):
            b = value[j] * a
            y[j] = value[j] if x[j] > 0 else b


include "views.pxi"
