"""How channel.pyx and batch_norm.pyx cut x (N, C, S), images, channels, places, into work; their statistics.

Everything is a function of the shape alone, never of the number of threads.  There are two layouts:

by row      S is 16 or more.  The S places of a channel of one image lie together, and one value per channel
            serves all of them.  A tile is a channel.
by column   S is less, mostly 1 (the output of InnerProduct).  x is read as a matrix with one column for each
            channel and place, repeated until it is 32 columns wide; vectors are spread over those columns
            and sums are kept for each of them.  A tile is a run of columns, of whole channels if nothing is repeated.

A sum reads its tensors once.  Its items, a tile of a block of images each, write one double (by row) or one per
column (by column) into memory handed in; these partial sums are added in a fixed order.  A map goes by strips:
neighbouring tiles of one image.

Kernels that need sums first and then visit the tensor again go by groups of channels that are still in the cache the
second time, as long as there are enough groups for all threads; the items are the same either way.  By row, a group
is visited image by image, as it lies in memory, and each visit also fetches what will be needed next, one tensor or two
of them: a run is too short for the processor to see it coming, and a visit that finds everything in the cache would
leave the memory idle.
"""

from cython.parallel cimport prange
from libc.math cimport fabs, sqrt
from libc.stdint cimport int64_t

from common cimport ceil_div, real

cdef extern from "stream.h" nogil:
    int STREAM_BYTES, STREAM_RUN

cdef extern from "channel.h" nogil:
    int SUM, DEVIATIONS, DOT, SUM_AND_DOT, CHANNEL_LANES, LONG
    void sum_rows_float(int what, const float *x, const float *y, int64_t count, int64_t stride, int64_t tiles,
                        int64_t length, int64_t ahead, int64_t turn, const double *mean, double *first, double *second)
    void sum_rows_double(int what, const double *x, const double *y, int64_t count, int64_t stride, int64_t tiles,
                         int64_t length, int64_t ahead, int64_t turn, const double *mean, double *first,
                         double *second)
    double estimate_float(const float *x, int64_t count, int64_t stride)
    double estimate_double(const double *x, int64_t count, int64_t stride)
    void sum_columns_float(int what, const float *x, const float *y, int64_t count, int64_t stride, int64_t length,
                           int64_t size, const double *mean, double *first, double *second)
    void sum_columns_double(int what, const double *x, const double *y, int64_t count, int64_t stride, int64_t length,
                            int64_t size, const double *mean, double *first, double *second)

cdef enum:
    CHUNK = 2048         # least number of places of an item, by row, if there are so many
    TILE = 1024          # most columns of a tile
    WIDTH = 32           # least width of the matrix
    COLUMNS = 256        # least columns of a tile, if there are so many
    STRIP = 4096         # elements of a strip, about
    GROUP = 16384        # elements of a group of channels by row, about
    PIECE = 1024         # most of them in one image, where they are several channels: 16 places of TOGETHER channels
    GROUP_BY_COLUMN = 8192
    FETCH = 131072       # most elements of a group that leave room in the second-level cache for those of the next


cdef struct Plan:
    Py_ssize_t channels, places, size
    bint by_column
    Py_ssize_t repeat        # how often the channels and places stand side by side in the matrix
    Py_ssize_t width         # length of the vectors: channels, or columns of the matrix
    Py_ssize_t images        # images, or rows of the matrix
    Py_ssize_t rows          # images, or rows of the matrix, of an item of a sum
    Py_ssize_t blocks        # of so many images
    Py_ssize_t tile, tiles   # columns of a tile (by row 1, the channel), and how many there are
    Py_ssize_t chunks        # into which a row is cut, by row
    Py_ssize_t items         # of a sum
    Py_ssize_t strip         # tiles of a strip
    Py_ssize_t strips
    Py_ssize_t group         # channels of a group
    Py_ssize_t groups        # 0 where a tile is not of whole channels
    Py_ssize_t ahead         # from an element to that of the next group, or 0 where that is not to be fetched
    bint short               # runs are short: see `ahead_of`


cdef struct Item:
    # `count` runs of elements: at start, start + stride, ..., each of `length`, the last cut at the end of x; by row
    # `tiles` of them follow each other
    Py_ssize_t start, stride, count, tiles, length
    Py_ssize_t ahead, turn   # what is to be fetched: see sum_runs
    Py_ssize_t column        # where its first value is in the vectors
    Py_ssize_t part          # where its first partial sum is


cdef struct Strip:
    # `tiles` runs of elements that follow each other in memory, the first at `start`, each of `length`
    Py_ssize_t start, tiles, length
    Py_ssize_t column        # where the value of the first tile, or of its first column, is in the vectors


cdef inline bint is_streamed(const Plan *p, Py_ssize_t tiles, const real *y) noexcept nogil:
    """Whether a result of which so many tiles are written at a time goes past the caches."""
    cdef Py_ssize_t run = tiles * (p.tile if p.by_column else p.places)
    return p.size * <Py_ssize_t> sizeof(real) >= STREAM_BYTES and run >= STREAM_RUN


cdef inline Plan plan_of(Py_ssize_t N, Py_ssize_t C, Py_ssize_t S) noexcept nogil:
    cdef Plan p
    p.channels, p.places, p.size = C, S, N * C * S
    p.by_column = S < CHANNEL_LANES
    p.width, p.images, p.repeat, p.chunks, p.tile, p.group = C, N, 1, 1, 1, C
    p.rows = p.blocks = p.tiles = p.items = p.strip = p.strips = p.groups = p.ahead = 0
    p.short = False
    if p.size == 0:
        return p
    if p.by_column:
        p.repeat = max(1, min(N, WIDTH // (C * S)))
        p.width = p.repeat * C * S
        p.images = ceil_div(N, p.repeat)
        p.rows = max(32, 65536 // p.width)
        if p.repeat == 1:
            p.group = min(C, max(ceil_div(COLUMNS, S), min(TILE, GROUP_BY_COLUMN // N) // S))
            p.groups = ceil_div(C, p.group)
            p.tile = p.group * S
        else:
            p.tile = min(TILE, p.width)
        p.tiles = ceil_div(p.width, p.tile)
        p.blocks = ceil_div(p.images, p.rows)
    else:
        p.rows = max(1, min(16, CHUNK // S))
        p.chunks = max(1, S // CHUNK)
        p.blocks = ceil_div(N, p.rows) * p.chunks
        p.tiles = C
        p.group = max(1, min(C, min(GROUP // N, PIECE) // S))
        p.groups = ceil_div(C, p.group)
        p.short = S < LONG
        if N * p.group * S <= FETCH:
            p.ahead = p.group * S
    p.items = p.blocks * p.tiles
    p.strip = max(1, STRIP // (p.tile if p.by_column else S))
    p.strips = p.images * ceil_div(p.tiles, p.strip) * p.chunks
    return p


cdef inline Item sum_item(const Plan *p, Py_ssize_t block, Py_ssize_t tile) noexcept nogil:
    """Item of a sum."""
    cdef Item item
    cdef Py_ssize_t image = p.channels * p.places, first, chunk
    item.tiles, item.ahead, item.turn = 1, 0, 0
    if p.by_column:
        first = block * p.rows * p.width
        item.column = tile * p.tile
        item.start = first + item.column
        item.stride = p.width
        item.count = ceil_div(min(first + p.rows * p.width, p.size) - item.start, p.width)
        item.length = min(p.tile, p.width - item.column)
    else:
        first, chunk = block // p.chunks * p.rows * image, block % p.chunks
        item.column = tile
        item.start = first + tile * p.places + chunk * CHUNK
        item.stride = image
        item.count = min(p.rows, (p.size - first) // image)
        item.length = CHUNK if chunk < p.chunks - 1 else p.places - chunk * CHUNK
    item.part = block * p.width + item.column
    return item


cdef inline Item group_item(const Plan *p, Py_ssize_t block, Py_ssize_t group, bint streams) noexcept nogil:
    """The items of a group in a block, as one."""
    cdef Py_ssize_t tile = group_tile(p, group)
    cdef Item item = sum_item(p, block, tile)
    item.tiles = group_tile(p, group + 1) - tile
    item.ahead = ahead_of(p, 0, streams)
    item.turn = ahead_of(p, 0 if block < p.blocks - 1 else p.images - 1, streams)
    return item


cdef inline Py_ssize_t ahead_of(const Plan *p, Py_ssize_t image, bint streams) noexcept nogil:
    """From an element in an image to the one to be fetched meanwhile, or 0.

    Where runs are short, that is the one in the image which is visited next, in the next group after the last.  Else,
    or where a result is written past the caches, it is that of the next group.
    """
    cdef Py_ssize_t size = p.channels * p.places
    if streams or not p.short:
        return p.ahead
    return size if image < p.images - 1 else p.group * p.places - image * size


cdef inline Strip strip_of(const Plan *p, Py_ssize_t image, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """The tiles from `first` to `end` of one image, or of one row of the matrix."""
    cdef Strip s
    if p.by_column:
        s.column = first * p.tile
        s.start = image * p.width + s.column
        s.tiles = 1
        s.length = min(min(end * p.tile, p.width) - s.column, p.size - s.start)
    else:
        s.column = first
        s.start = (image * p.channels + first) * p.places
        s.tiles = end - first
        s.length = p.places
    return s


cdef inline Strip strip_number(const Plan *p, Py_ssize_t i) noexcept nogil:
    """Strip i of `strips`: some tiles, or where a row is cut, a chunk of one."""
    cdef Py_ssize_t of_image = ceil_div(p.tiles, p.strip), chunk = i % p.chunks
    cdef Py_ssize_t first = i // p.chunks % of_image * p.strip
    cdef Strip s = strip_of(p, i // p.chunks // of_image, first, min(first + p.strip, p.tiles))
    if p.chunks > 1:
        s.start += chunk * CHUNK
        s.length = CHUNK if chunk < p.chunks - 1 else p.places - chunk * CHUNK
    return s


cdef inline Py_ssize_t group_tile(const Plan *p, Py_ssize_t group) noexcept nogil:
    """The first tile of a group; that of the next group is its end."""
    return min(group if p.by_column else group * p.group, p.tiles)


cdef inline Py_ssize_t group_channel(const Plan *p, Py_ssize_t group) noexcept nogil:
    """The first channel of a group; that of the next group is its end."""
    return min(group * p.group, p.channels)


cdef inline void put(const Plan *p, real *vector, Py_ssize_t c, real value) noexcept nogil:
    """Write the value of a channel such that `item.column` is an index into the vector."""
    cdef Py_ssize_t r, s
    if p.by_column:
        for r in range(p.repeat):
            for s in range(p.places):
                vector[(r * p.channels + c) * p.places + s] = value
    else:
        vector[c] = value


cdef inline void spread(const Plan *p, const real *vector, real *out) noexcept nogil:
    """Write a vector over the channels such that `item.column` is an index into it."""
    cdef Py_ssize_t c
    for c in range(p.channels):
        put(p, out, c, vector[c])


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
    """Partial sums of one item, as channel.h defines them; only DEVIATIONS reads mean."""
    cdef Py_ssize_t left = p.size - item.start
    x += item.start
    y += item.start
    mean += item.column
    first += item.part
    second += item.part
    if p.by_column:
        if real is float:
            sum_columns_float(what, x, y, item.count, item.stride, item.length, left, mean, first, second)
        else:
            sum_columns_double(what, x, y, item.count, item.stride, item.length, left, mean, first, second)
    else:
        if real is float:
            sum_rows_float(what, x, y, item.count, item.stride, item.tiles, item.length, item.ahead, item.turn, mean,
                           first, second)
        else:
            sum_rows_double(what, x, y, item.count, item.stride, item.tiles, item.length, item.ahead, item.turn, mean,
                            first, second)


cdef inline void sums_of_group(
    int what, const Plan *p, Py_ssize_t group, const real *x, const real *y, const double *mean, double *first,
    double *second,
) noexcept nogil:
    cdef Py_ssize_t block
    for block in range(p.blocks):
        sum_of_item(what, p, group_item(p, block, group, False), x, y, mean, first, second)


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
                x + c * p.places + (p.places - CHANNEL_LANES) // 2, p.images, p.channels * p.places
            )
        else:
            m.spread[c] = estimate_double(
                x + c * p.places + (p.places - CHANNEL_LANES) // 2, p.images, p.channels * p.places
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


cdef inline void moments_of_group(const Plan *p, Py_ssize_t group, const real *x, Moments m) noexcept nogil:
    cdef Py_ssize_t c0 = group_channel(p, group), c1 = group_channel(p, group + 1), block, c
    cdef double *squares = m.part + p.blocks * p.width
    if p.by_column:
        sums_of_group(SUM, p, group, x, x, m.spread, m.part, squares)
    estimate(p, c0, c1, x, m)
    sums_of_group(DEVIATIONS, p, group, x, x, m.spread, m.part, squares)
    if end_moments_of(p, c0, c1, False, m):
        for block in range(p.blocks):
            for c in range(c0, c1):
                if m.var[c] == -1:
                    sum_of_item(DEVIATIONS, p, sum_item(p, block, c), x, x, m.spread, m.part, squares)
        end_moments_of(p, c0, c1, True, m)


cdef inline void moments_of_all(const Plan *p, const real *x, Moments m, int n_threads) noexcept nogil:
    cdef Py_ssize_t i
    cdef double *squares = m.part + p.blocks * p.width
    if p.by_column:
        for i in prange(p.items, num_threads=n_threads, schedule="static"):
            sum_of_item(SUM, p, sum_item(p, i // p.tiles, i % p.tiles), x, x, m.spread, m.part, squares)
    estimate(p, 0, p.channels, x, m)
    for i in prange(p.items, num_threads=n_threads, schedule="static"):
        sum_of_item(DEVIATIONS, p, sum_item(p, i // p.tiles, i % p.tiles), x, x, m.spread, m.part, squares)
    if end_moments_of(p, 0, p.channels, False, m):
        for i in prange(p.items, num_threads=n_threads, schedule="static"):
            if m.var[i % p.tiles] == -1:
                sum_of_item(DEVIATIONS, p, sum_item(p, i // p.tiles, i % p.tiles), x, x, m.spread, m.part, squares)
        end_moments_of(p, 0, p.channels, True, m)
