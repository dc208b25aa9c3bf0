"""How channel.pyx and batch_norm.pyx cut x (N, C, S), images, channels, places, into work; their statistics.

Everything is a function of the shape alone, never of the number of threads.  x is a matrix whose rows are images.
There are two layouts:

by row      S is 16 or more.  The S places of a channel of one image lie together, and one value per channel
            serves all of them.
by column   S is less, mostly 1 (the output of InnerProduct).  Rows are repeated until they are 32 columns wide;
            vectors are spread over those columns and sums are kept for each of them.

A tile is some columns: by row of whole channels, of one where a channel is LONG, else of some that begin at a line.  A
sum reads its tensors once.  Its items, a tile of a block of images each, write one double for each channel (by row) or
column (by column) into memory handed in; these partial sums are added in a fixed order.  A map goes by strips:
neighbouring tiles of a few images.

Kernels that need sums first and then visit the tensor again go tile by tile, all images of it, so that it is still in
the cache the second time, as long as there are enough tiles for all threads; the items are the same either way.
"""

from cython.parallel cimport prange
from libc.math cimport fabs, sqrt
from libc.stdint cimport int64_t, uintptr_t

from common cimport ceil_div, real

cdef extern from "stream.h" nogil:
    int STREAM_BYTES, STREAM_LINE

cdef extern from "channel.h" nogil:
    int SUM, DEVIATIONS, DOT, SUM_AND_DOT, LANES, LONG, TOGETHER
    ctypedef struct Rows:
        int64_t start, stride, count, length, places, size
    void sum_rows_float(int what, const Rows *rows, const float *x, const float *y, const double *mean, double *first,
                        double *second)
    void sum_rows_double(int what, const Rows *rows, const double *x, const double *y, const double *mean,
                         double *first, double *second)
    double estimate_float(const float *x, int64_t count, int64_t stride)
    double estimate_double(const double *x, int64_t count, int64_t stride)

cdef enum:
    CHUNK = 2048         # least number of places of an item, where channels are long, if there are so many
    TILE = 1024          # most columns of a tile of channels that are not long, if one has not more
    WIDTH = 32           # least width of the matrix
    COLUMNS = 256        # least columns of a tile, by column, if there are so many
    STRIP = 16384        # elements of a strip, about,
    SHORT_STRIP = 4096   # and of a tensor of less than
    STRIPS = 64          # so many strips
    GROUP = 131072       # most elements of a tile of several channels: two such fit the second-level cache
    GROUP_BY_COLUMN = 8192


cdef struct Plan:
    Py_ssize_t channels, places, size
    bint by_column
    Py_ssize_t repeat        # how often the channels and places stand side by side in a row of the matrix
    Py_ssize_t row           # columns of the matrix
    Py_ssize_t span          # columns that have one value of a vector in common
    Py_ssize_t width         # length of the vectors: channels, or columns
    Py_ssize_t images        # rows of the matrix
    Py_ssize_t rows          # of an item of a sum
    Py_ssize_t blocks        # of so many images
    Py_ssize_t tile, tiles   # columns of a tile, and how many there are
    Py_ssize_t chunks        # into which a tile is cut, where channels are long
    Py_ssize_t items         # of a sum
    Py_ssize_t strip         # tiles of a strip
    Py_ssize_t together      # images of a strip
    Py_ssize_t strips
    bint whole               # tiles are of whole channels


cdef struct Item:
    Rows rows
    Py_ssize_t column        # where its first value is in the vectors
    Py_ssize_t part          # where its first partial sum is


cdef inline Plan plan_of(Py_ssize_t N, Py_ssize_t C, Py_ssize_t S) noexcept nogil:
    cdef Plan p
    cdef Py_ssize_t group
    p.channels, p.places, p.size = C, S, N * C * S
    p.by_column = S < LANES
    p.width, p.images, p.repeat, p.chunks, p.span, p.row = C, N, 1, 1, S, C * S
    p.rows = p.blocks = p.tile = p.tiles = p.items = p.strip = p.strips = 0
    p.together, p.whole = 1, True
    if p.size == 0:
        return p
    if p.by_column:
        p.repeat = max(1, min(N, WIDTH // p.row))
        p.row *= p.repeat
        p.width, p.span = p.row, 1
        p.images = ceil_div(N, p.repeat)
        p.rows = max(32, 65536 // p.width)
        p.whole = p.repeat == 1
        p.tile = min(TILE, p.row)
        if p.whole:
            p.tile = S * min(C, max(ceil_div(COLUMNS, S), min(TILE, GROUP_BY_COLUMN // N) // S))
    elif S >= LONG:
        p.rows = max(1, min(16, CHUNK // S))
        p.chunks = max(1, S // CHUNK)
        p.tile = S
    else:
        p.rows, group = 16, 1
        while 2 * group * S <= TILE and 2 * group * S * N <= GROUP:
            group *= 2
        p.tile = group * S
    p.tiles = ceil_div(p.row, p.tile)
    p.blocks = ceil_div(p.images, p.rows) * p.chunks
    p.items = p.blocks * p.tiles
    if S < LONG:
        p.together = min(p.images, TOGETHER)
    p.strip = max(1, max(SHORT_STRIP, min(STRIP, p.size // STRIPS)) // (p.tile * p.together))
    p.strips = ceil_div(p.images, p.together) * ceil_div(p.tiles, p.strip) * p.chunks
    return p


cdef inline bint is_streamed(const Plan *p, const real *y) noexcept nogil:
    """Whether a result goes past the caches: one that is large, and is made of whole lines or of long runs."""
    cdef Py_ssize_t of_line = STREAM_LINE // <Py_ssize_t> sizeof(real)
    if p.size * <Py_ssize_t> sizeof(real) < STREAM_BYTES:
        return False
    return p.places >= LONG or (<uintptr_t> y % STREAM_LINE == 0 and p.row % of_line == 0 and p.tile % of_line == 0)


cdef inline Item item_of(
    const Plan *p, Py_ssize_t image, Py_ssize_t count, Py_ssize_t column, Py_ssize_t length
) noexcept nogil:
    """Some columns of some rows."""
    cdef Item item
    item.column, item.part = column // p.span, 0
    item.rows.start = image * p.row + column
    item.rows.stride = p.row
    item.rows.count = min(count, p.images - image)
    item.rows.length = min(length, p.row - column)
    item.rows.places = p.span
    item.rows.size = p.size - item.rows.start
    return item


cdef inline Item chunk_of(const Plan *p, Item item, Py_ssize_t chunk) noexcept nogil:
    """One of `chunks` of an item."""
    if p.chunks > 1:
        item.rows.start += chunk * CHUNK
        item.rows.size -= chunk * CHUNK
        item.rows.length = CHUNK if chunk < p.chunks - 1 else p.places - chunk * CHUNK
        item.rows.places = item.rows.length
    return item


cdef inline Item sum_item(const Plan *p, Py_ssize_t block, Py_ssize_t column, Py_ssize_t length) noexcept nogil:
    """Some columns of a block."""
    cdef Item item = chunk_of(
        p, item_of(p, block // p.chunks * p.rows, p.rows, column, length), block % p.chunks
    )
    item.part = block * p.width + item.column
    return item


cdef inline Item item_number(const Plan *p, Py_ssize_t i) noexcept nogil:
    """Item i of `items`."""
    return sum_item(p, i // p.tiles, i % p.tiles * p.tile, p.tile)


cdef inline Item strip_number(const Plan *p, Py_ssize_t i) noexcept nogil:
    """Strip i of `strips`: some tiles, or where long channels are cut, a chunk of one."""
    cdef Py_ssize_t of_images = ceil_div(p.tiles, p.strip), columns = p.strip * p.tile, k = i // p.chunks
    return chunk_of(
        p, item_of(p, k // of_images * p.together, p.together, k % of_images * columns, columns), i % p.chunks
    )


cdef inline Item tile_of_all(const Plan *p, Py_ssize_t tile) noexcept nogil:
    """A tile of all images."""
    return item_of(p, 0, p.images, tile * p.tile, p.tile)


cdef inline bint is_grouped(const Plan *p, int n_threads) noexcept nogil:
    """Whether to go tile by tile where a tensor is visited twice."""
    return p.whole and p.tiles >= 2 * n_threads


cdef inline Py_ssize_t tile_channel(const Plan *p, Py_ssize_t tile) noexcept nogil:
    """The first channel of a tile; that of the next is its end."""
    return min(tile * p.tile, p.row) // p.places


cdef inline void put(const Plan *p, real *vector, Py_ssize_t c, real value) noexcept nogil:
    """Write the value of a channel such that `item.column` is an index into the vector."""
    cdef Py_ssize_t r, s
    if p.by_column:
        for r in range(p.repeat):
            for s in range(p.places):
                vector[(r * p.channels + c) * p.places + s] = value
    else:
        vector[c] = value


cdef inline void spread_in_place(const Plan *p, Py_ssize_t c0, Py_ssize_t c1, real *vector) noexcept nogil:
    """Write the values of some channels such that `item.column` is an index into the vector: as `put`, where they stand
    one behind the other from the column of the first on."""
    cdef Py_ssize_t c, s, i, size = p.channels * p.places
    if p.width == p.channels:
        return
    # from the end, as a value stands where one before it, or itself, will be written
    for c in range(c1 - 1, c0 - 1, -1):
        for s in range(p.places - 1, -1, -1):
            vector[c * p.places + s] = vector[c0 * p.places + c - c0]
    for i in range(size, p.width):
        vector[i] = vector[i - size]


cdef inline void spread(const Plan *p, const real *vector, real *out) noexcept nogil:
    """Write a vector over the channels such that `item.column` is an index into it."""
    cdef Py_ssize_t c
    for c in range(p.channels):
        out[c] = vector[c]
    spread_in_place(p, 0, p.channels, out)


cdef inline double total_of(const Plan *p, Py_ssize_t c, const double *part) noexcept nogil:
    """The partial sums of a channel, added up."""
    cdef Py_ssize_t block, r, s, at, image = p.channels * p.places
    cdef double result = 0
    for block in range(p.blocks):
        if p.by_column:
            for r in range(p.repeat):
                at = block * p.width + r * image + c * p.places
                for s in range(p.places):
                    result += part[at + s]
        else:
            result += part[block * p.width + c]
    return result


cdef inline void sum_of_item(
    int what, const Plan *p, Item item, const real *x, const real *y, const double *mean, double *first,
    double *second,
) noexcept nogil:
    """Partial sums of one item, as channel_impl.h defines them; only DEVIATIONS reads mean."""
    mean += item.column
    first += item.part
    second += item.part
    if real is float:
        sum_rows_float(what, &item.rows, x, y, mean, first, second)
    else:
        sum_rows_double(what, &item.rows, x, y, mean, first, second)


cdef inline void sums_of_tile(
    int what, const Plan *p, Py_ssize_t tile, const real *x, const real *y, const double *mean, double *first,
    double *second,
) noexcept nogil:
    cdef Py_ssize_t block
    for block in range(p.blocks):
        sum_of_item(what, p, item_number(p, block * p.tiles + tile), x, y, mean, first, second)


cdef inline void sums_of_all(
    int what, const Plan *p, const real *x, const real *y, const double *mean, double *first, double *second,
    int n_threads,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in prange(p.items, num_threads=n_threads, schedule="static"):
        sum_of_item(what, p, item_number(p, i), x, y, mean, first, second)


# Mean and variance need two passes, or one with deviations from an estimate of the mean,
#     variance = mean of (x - estimate)^2 - (mean - estimate)^2,
# which is as exact where the estimate is near, and where the mean, which is exact to the last of its digits, is not
# large.  By column the estimate is the mean.  By row it comes from a few elements; channels where it was not near
# enough are visited again with the mean that was found (nearly: see `estimate` in channel_impl.h).


cdef struct Moments:
    double count             # values of a channel
    double *mean             # of each channel
    double *var
    double *part             # 2 * blocks * width
    double *spread           # width: the estimate


cdef inline void estimate(const Plan *p, Py_ssize_t c0, Py_ssize_t c1, const real *x, Moments m) noexcept nogil:
    """By column from the sums, by row from the middle of images."""
    cdef Py_ssize_t c
    for c in range(c0, c1):
        if p.by_column:
            m.mean[c] = total_of(p, c, m.part) / m.count
            put(p, m.spread, c, m.mean[c])
        elif real is float:
            m.spread[c] = estimate_float(
                x + c * p.places + (p.places - LANES) // 2, p.images, p.channels * p.places
            )
        else:
            m.spread[c] = estimate_double(
                x + c * p.places + (p.places - LANES) // 2, p.images, p.channels * p.places
            )


cdef inline bint end_moments_of(const Plan *p, Py_ssize_t c0, Py_ssize_t c1, bint again, Moments m) noexcept nogil:
    """Mean and variance; whether there are channels to be visited again, whose variance is -1."""
    cdef Py_ssize_t c
    cdef double error, var
    cdef bint left = False
    for c in range(c0, c1):
        if again and m.var[c] != -1:
            continue
        var = total_of(p, c, m.part + p.blocks * p.width) / m.count
        if not p.by_column:
            m.mean[c] = total_of(p, c, m.part) / m.count
            error = m.mean[c] - m.spread[c]
            var -= error * error
            if not again and (8 * error * error > var or 2 * fabs(error * m.mean[c]) > var):
                m.spread[c] = m.mean[c] + 1e-9 * sqrt(fabs(var))
                m.var[c] = -1
                left = True
                continue
        m.var[c] = 0 if var < 0 else var
    return left


cdef inline void deviations_again(
    const Plan *p, Py_ssize_t block, Py_ssize_t c, const real *x, Moments m
) noexcept nogil:
    """Sums of a channel that is to be visited again."""
    if m.var[c] == -1:
        sum_of_item(DEVIATIONS, p, sum_item(p, block, c * p.places, p.places), x, x, m.spread, m.part,
                    m.part + p.blocks * p.width)


cdef inline void moments_of_tile(const Plan *p, Py_ssize_t tile, const real *x, Moments m) noexcept nogil:
    cdef Py_ssize_t c0 = tile_channel(p, tile), c1 = tile_channel(p, tile + 1), block, c
    cdef double *squares = m.part + p.blocks * p.width
    if p.by_column:
        sums_of_tile(SUM, p, tile, x, x, m.spread, m.part, squares)
    estimate(p, c0, c1, x, m)
    sums_of_tile(DEVIATIONS, p, tile, x, x, m.spread, m.part, squares)
    if end_moments_of(p, c0, c1, False, m):
        for block in range(p.blocks):
            for c in range(c0, c1):
                deviations_again(p, block, c, x, m)
        end_moments_of(p, c0, c1, True, m)


cdef inline void moments_of_all(const Plan *p, const real *x, Moments m, int n_threads) noexcept nogil:
    cdef Py_ssize_t i
    cdef double *squares = m.part + p.blocks * p.width
    if p.by_column:
        sums_of_all(SUM, p, x, x, m.spread, m.part, squares, n_threads)
    estimate(p, 0, p.channels, x, m)
    sums_of_all(DEVIATIONS, p, x, x, m.spread, m.part, squares, n_threads)
    if end_moments_of(p, 0, p.channels, False, m):
        for i in prange(p.blocks * p.channels, num_threads=n_threads, schedule="static"):
            deviations_again(p, i // p.channels, i % p.channels, x, m)
        end_moments_of(p, 0, p.channels, True, m)


cdef inline void moments_by_plan(const Plan *p, const real *x, Moments m, int n_threads) noexcept nogil:
    cdef Py_ssize_t i
    if is_grouped(p, n_threads):
        for i in prange(p.tiles, num_threads=n_threads, schedule="static"):
            moments_of_tile(p, i, x, m)
    else:
        moments_of_all(p, x, m, n_threads)
