/* The part of batch_norm.h that is compiled for float and for double. */

/* ---- Forward ---- */

/* Normalisation and affine map, one rounding after the other as in the single ops. */
#define MAPPED(x) ((((x) - VALUE(high)) - VALUE(low)) * VALUE(factor) * VALUE(scale) + VALUE(shift))

/* y = act(mapped x + residual); below 0 the activation is 0 (relu) or a multiple. */
CHANNEL_INLINE void FN(forward_run)(const int column, const int add, const int relu, const REAL *x,
                                    const REAL *residual, const REAL *v, int64_t width, REAL slope, REAL *y, int64_t n)
{
    const REAL *high = v + HIGH * width, *low = v + LOW * width, *factor = v + FACTOR * width;
    const REAL *scale = v + SCALE * width, *shift = v + SHIFT * width;
    FIRST(REAL, high); FIRST(REAL, low); FIRST(REAL, factor); FIRST(REAL, scale); FIRST(REAL, shift);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        REAL z = MAPPED(x[j]);
        if (add) z += residual[j];
        const REAL below = relu ? 0 : z * slope;
        y[j] = z < 0 ? below : z;
    }
}

#define CHOOSE(column, add, relu, call)                                                        \
    switch ((column) * 4 + (add) * 2 + (relu)) {                                               \
    case 0: call(0, 0, 0); break; case 1: call(0, 0, 1); break;                                \
    case 2: call(0, 1, 0); break; case 3: call(0, 1, 1); break;                                \
    case 4: call(1, 0, 0); break; case 5: call(1, 0, 1); break;                                \
    case 6: call(1, 1, 0); break; default: call(1, 1, 1);                                      \
    }

/* `tiles` runs as in the maps of channel_impl.h; streams: y is written past the caches.  What lies `ahead` in residual is
   fetched, and in y, or in x where y streams; with 0, when nobody has fetched x either, what lies a little further in
   all of them.  residual may be NULL; slope 0 is relu, and 1 no activation. */
CHANNEL_INLINE void FN(forward_runs)(const int column, const int add, const int relu, int streams, int64_t tiles,
                                     int64_t length, int64_t ahead, const REAL *x, const REAL *residual,
                                     const REAL *restrict v, int64_t width, REAL slope, REAL *y)
{
#define CHUNK(j, to, n)                                                                                        \
    do {                                                                                                       \
        if (of_x) CHANNEL_FETCH(x + j + of_x);                                                                 \
        if (of_y) CHANNEL_FETCH_NEARER(y + j + of_y);                                                          \
        if (add && near) CHANNEL_FETCH(residual + j + near);                                                   \
        FN(forward_run)(column, add, relu, x + j, add ? residual + j : x, v + (column ? j : 0), width, slope,  \
                        to, n);                                                                                \
    } while (0)
    const int64_t near = ahead ? ahead : fetched_from(0, tiles * length);
    const int64_t of_x = streams || !ahead ? near : 0, of_y = streams ? 0 : near;
    for (int64_t t = 0; t < tiles; t++, x += length, y += length, residual += add ? length : 0, v++)
        if (streams) IN_LINES(y, length, CHUNK);
        else IN_CHUNKS(y, length, CHUNK);
#undef CHUNK
}

/* The runs from `at` on. */
static void FN(forward)(int column, int streams, int64_t at, int64_t tiles, int64_t length, int64_t ahead,
                        const REAL *x, const REAL *residual, const REAL *v, int64_t width, REAL slope, REAL *y)
{
    x += at;
    y += at;
    if (residual) residual += at;
#define CALL(c, a, u) FN(forward_runs)(c, a, u, streams, tiles, length, ahead, x, residual, v, width, slope, y)
    CHOOSE(column, residual != 0, slope == 0, CALL)
#undef CALL
}

/* ---- Backward ---- */

/* Numbers in their order as integers, and back; -0 is taken for 0. */
CHANNEL_INLINE INTEGER FN(rank)(REAL x)
{
    INTEGER bits;
    memcpy(&bits, &x, sizeof bits);
    return bits < 0 ? -(bits & (INTEGER)~((uint64_t)1 << (8 * sizeof bits - 1))) : bits;
}

CHANNEL_INLINE REAL FN(of_rank)(INTEGER rank)
{
    REAL x;
    const INTEGER bits = rank < 0 ? -rank : rank;
    memcpy(&x, &bits, sizeof x);
    return rank < 0 ? -x : x;
}

/* The interval of x in which ((x - high) - low) * factor * scale + shift, each step rounded, is positive.

   Rounding keeps the order, so where this is positive is one interval, with one end at infinity; the other end is the
   number from which on it is positive, and is found by trying the numbers next to the root. */
static void FN(positive_interval)(double mean, REAL high, REAL low, REAL factor, REAL scale, REAL shift,
                                  REAL *from, REAL *to)
{
#define POSITIVE(x) ((((x) - high) - low) * factor * scale > -shift)
#define OF(i) FN(of_rank)(rising ? (i) : -(i))
    const double slope = (double)factor * scale, root = mean - shift / slope;
    const int rising = slope > 0;
    const int64_t limit = FN(rank)(INFINITY);
    *from = -INFINITY;
    *to = INFINITY;
    if (slope == 0) {
        if (!(POSITIVE(high))) *from = INFINITY, *to = -INFINITY;
        return;
    }
    /* Ranks in the direction in which it rises: 16 at once, which are nearly always enough */
    const int64_t middle = fabs(root) < 1e30 ? (rising ? FN(rank)((REAL)root) : -FN(rank)((REAL)root)) : 0;
    int64_t below = middle - CHANNEL_LANES / 2, above = below + CHANNEL_LANES - 1, positive = 0;
    for (int i = 0; i < CHANNEL_LANES; i++) positive += POSITIVE(OF(below + i));
    if (positive > 0 && positive < CHANNEL_LANES) {
        above = below + CHANNEL_LANES - positive;
    } else {
        /* else steps that double until the end lies between `below`, where it is not positive, and `above` */
        uint64_t step = CHANNEL_LANES;
        if (positive) {
            for (above = below; above > -limit && POSITIVE(OF(above)); step *= 2) {
                below = above;
                above = step < (uint64_t)above + (uint64_t)limit ? (int64_t)((uint64_t)above - step) : -limit;
            }
            const int64_t found = above;
            above = below, below = found;
        } else {
            for (below = above; above < limit && !(POSITIVE(OF(above))); step *= 2) {
                below = above;
                above = step < (uint64_t)limit - (uint64_t)above ? (int64_t)((uint64_t)above + step) : limit;
            }
        }
        if (POSITIVE(OF(below))) above = below;
        else if (!(POSITIVE(OF(above)))) {
            *from = INFINITY, *to = -INFINITY;
            return;
        } else
            while ((uint64_t)above - (uint64_t)below > 1) {
                const int64_t between = (int64_t)((uint64_t)below + ((uint64_t)above - (uint64_t)below) / 2);
                if (POSITIVE(OF(between))) above = between;
                else below = between;
            }
    }
    *(rising ? from : to) = OF(above);
#undef OF
#undef POSITIVE
}

/* Vectors FROM and TO of n channels, each value in a column.  The 16 numbers next to the roots are tried for 16
   channels at a time, and where the end is none of these it is found as above. */
static void FN(positive_intervals)(int64_t n, const double *mean, REAL *v, int64_t width)
{
    for (int64_t c = 0; c < n; c += CHANNEL_LANES, mean += CHANNEL_LANES, v += CHANNEL_LANES) {
        const int64_t count = n - c < CHANNEL_LANES ? n - c : CHANNEL_LANES;
        REAL high[CHANNEL_LANES] = {0}, low[CHANNEL_LANES] = {0}, factor[CHANNEL_LANES] = {0};
        REAL scale[CHANNEL_LANES] = {0}, shift[CHANNEL_LANES] = {0}, end[CHANNEL_LANES];
        double middle[CHANNEL_LANES] = {0};
        INTEGER below[CHANNEL_LANES], positive[CHANNEL_LANES] = {0}, rising[CHANNEL_LANES];
        memcpy(high, v + HIGH * width, count * sizeof *v);
        memcpy(low, v + LOW * width, count * sizeof *v);
        memcpy(factor, v + FACTOR * width, count * sizeof *v);
        memcpy(scale, v + SCALE * width, count * sizeof *v);
        memcpy(shift, v + SHIFT * width, count * sizeof *v);
        memcpy(middle, mean, count * sizeof *mean);
        INDEPENDENT
        for (int j = 0; j < CHANNEL_LANES; j++) {
            const double slope = (double)factor[j] * scale[j], root = middle[j] - shift[j] / slope;
            const INTEGER rank = FN(rank)((REAL)root);
            rising[j] = slope > 0;
            below[j] = (fabs(root) < 1e30 ? slope > 0 ? rank : -rank : 0) - CHANNEL_LANES / 2;
        }
        for (int i = 0; i < CHANNEL_LANES; i++) {
            INDEPENDENT
            for (int j = 0; j < CHANNEL_LANES; j++) {
                const REAL x = FN(of_rank)(rising[j] ? below[j] + i : -(below[j] + i));
                positive[j] += ((x - high[j]) - low[j]) * factor[j] * scale[j] > -shift[j];
            }
        }
        INDEPENDENT
        for (int j = 0; j < CHANNEL_LANES; j++) {
            const INTEGER above = below[j] + CHANNEL_LANES - positive[j];
            end[j] = FN(of_rank)(rising[j] ? above : -above);
        }
        for (int64_t j = 0; j < count; j++) {
            REAL *from = v + FROM * width + j, *to = v + TO * width + j;
            *from = rising[j] ? end[j] : -INFINITY;
            *to = rising[j] ? INFINITY : end[j];
            if (positive[j] == 0 || positive[j] == CHANNEL_LANES || factor[j] * scale[j] == 0)
                FN(positive_interval)(mean[j], high[j], low[j], factor[j], scale[j], shift[j], from, to);
        }
    }
}

/* Vectors HIGH to SHIFT of n channels, each value in a column, and FROM and TO if intervals are wanted. */
static void FN(put_vectors)(int64_t n, const double *mean, const double *inv_std, const REAL *scale, const REAL *shift,
                            int intervals, REAL *restrict v, int64_t width)
{
    for (int64_t c = 0; c < n; c++) v[HIGH * width + c] = (REAL)mean[c];
    for (int64_t c = 0; c < n; c++) v[LOW * width + c] = (REAL)(mean[c] - (REAL)mean[c]);
    for (int64_t c = 0; c < n; c++) v[FACTOR * width + c] = (REAL)inv_std[c];
    for (int64_t c = 0; c < n; c++) v[SCALE * width + c] = scale ? scale[c] : 1;
    /* unlike 0, adding -0 leaves every number as it is, -0 too */
    for (int64_t c = 0; c < n; c++) v[SHIFT * width + c] = shift ? shift[c] : (REAL)-0.0;
    if (intervals) FN(positive_intervals)(n, mean, v, width);
}

/* Whether the activation's output is positive. */
#define OPEN(j)                                                                                      \
    (sign == FROM_Y ? y[j] > 0                                                                       \
     : sign == FROM_INTERVAL ? (x[j] >= VALUE(from)) & (x[j] <= VALUE(to))                           \
     : sign == FROM_MAP ? MAPPED(x[j]) > 0                                                           \
                        : 1)

/* dz = dy where the activation's output is positive, else slope * dy. */
CHANNEL_INLINE void FN(gradient_run)(const int column, const int sign, const int relu, const REAL *x, const REAL *y,
                                     const REAL *dy, const REAL *v, int64_t width, REAL slope, REAL *dz, int64_t n)
{
    const REAL *high = v + HIGH * width, *low = v + LOW * width, *factor = v + FACTOR * width;
    const REAL *scale = v + SCALE * width, *shift = v + SHIFT * width;
    const REAL *from = v + FROM * width, *to = v + TO * width;
    FIRST(REAL, high); FIRST(REAL, low); FIRST(REAL, factor); FIRST(REAL, scale); FIRST(REAL, shift);
    FIRST(REAL, from); FIRST(REAL, to);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const int open = OPEN(j);
        const REAL own = dy[j], other = relu ? 0 : own * slope;
        dz[j] = open ? own : other;
    }
}

/* Call `call(sign, relu)`, which are constants in it. */
#define CHOOSE_SIGN(sign, relu, call)                                                               \
    switch ((sign) * 2 + (relu)) {                                                                  \
    case FROM_Y * 2: call(FROM_Y, 0); break; case FROM_Y * 2 + 1: call(FROM_Y, 1); break;           \
    case FROM_INTERVAL * 2: call(FROM_INTERVAL, 0); break;                                          \
    case FROM_INTERVAL * 2 + 1: call(FROM_INTERVAL, 1); break;                                      \
    case FROM_MAP * 2: call(FROM_MAP, 0); break; case FROM_MAP * 2 + 1: call(FROM_MAP, 1); break;   \
    default: call(NO_ACTIVATION, 0);                                                                \
    }

/* dz of runs as in the maps of channel_impl.h. */
CHANNEL_INLINE void FN(gradient_runs)(const int column, const int sign, const int relu, int64_t at, int64_t tiles,
                                      int64_t length, const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                                      int64_t width, REAL slope, REAL *dz)
{
#define CHUNK(j, to, n)                                                                                     \
    FN(gradient_run)(column, sign, relu, x + at + j, y + at + j, dy + at + j, v + (column ? j : t), width,  \
                     slope, to, n)
    for (int64_t t = 0; t < tiles; t++, at += length) IN_CHUNKS(dz + at, length, CHUNK);
#undef CHUNK
}

static void FN(gradient)(int column, int sign, int64_t at, int64_t tiles, int64_t length, const REAL *x,
                         const REAL *y, const REAL *dy, const REAL *v, int64_t width, REAL slope, REAL *dz)
{
    if (!y) y = x;
#define CALL(sign, relu)                                                                                      \
    if (column) FN(gradient_runs)(1, sign, relu, at, tiles, length, x, y, dy, v, width, slope, dz);           \
    else FN(gradient_runs)(0, sign, relu, at, tiles, length, x, y, dy, v, width, slope, dz)
    CHOOSE_SIGN(sign, slope == 0, CALL)
#undef CALL
}

/* Add 16 dz and dz * x to the lanes; see add_lanes.  What is 0 or dy is chosen as it is converted, which takes half the
   instructions. */
CHANNEL_INLINE void FN(add_gradients)(const int sign, const int relu, const REAL *x, const REAL *y, const REAL *dy,
                                      const REAL *v, int64_t width, REAL slope, const int64_t *mask,
                                      lanes_part *first, lanes_part *second)
{
    const int chosen = sign == NO_ACTIVATION || (relu && sign != FROM_MAP);
    const double from = v[FROM * width], to = v[TO * width];
    REAL dz[CHANNEL_LANES];
    if (!chosen) FN(gradient_run)(0, sign, relu, x, y, dy, v, width, slope, dz, CHANNEL_LANES);
#pragma GCC unroll 8
    for (int k = 0; k < PARTS; k++) {
        if (mask && !mask[(k + 1) * PART - 1]) continue;
        const lanes_part at = FN(part_of)(x + k * PART);
        lanes_part z = FN(part_of)((chosen ? dy : dz) + k * PART);
        if (chosen && sign == FROM_INTERVAL) z = LANES_WHERE((at >= from) & (at <= to), z);
        if (chosen && sign == FROM_Y) z = LANES_WHERE(FN(part_of)(y + k * PART) > 0, z);
        if (mask) z = LANES_WHERE(*(const lanes_mask *)(mask + k * PART), z);
        first[k] += z;
        second[k] = FN(sum_of_product)(second[k], z, at);
    }
}

/* Add a run of 16 elements or more to the lanes; what lies `ahead` in the tensors that are read is fetched, but dy if
   that is done `later`. */
CHANNEL_INLINE void FN(add_gradients_of_run)(const int sign, const int relu, int64_t length, int64_t ahead, int later,
                                             const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                                             int64_t width, REAL slope, lanes_part *first, lanes_part *second)
{
    const int64_t rest = length % CHANNEL_LANES, whole = length - rest, last = length - CHANNEL_LANES;
    for (int64_t i = 0; i < whole; i += CHANNEL_LANES) {
        if (ahead) CHANNEL_FETCH(x + i + ahead);
        if (ahead && !later) CHANNEL_FETCH(dy + i + ahead);
        if (ahead && sign == FROM_Y) CHANNEL_FETCH(y + i + ahead);
        FN(add_gradients)(sign, relu, x + i, y + i, dy + i, v, width, slope, 0, first, second);
    }
    if (rest)
        FN(add_gradients)(sign, relu, x + last, y + last, dy + last, v, width, slope, channel_masks + rest,
                          first, second);
}

/* sum = sum dz and dot = sum dz * x, by row, as sum_runs does it; the first run is at `start`. */
CHANNEL_INLINE void FN(gradient_sums_of_runs)(const int sign, const int relu, int64_t start, int64_t count,
                                              int64_t stride, int64_t tiles, int64_t length, int64_t ahead,
                                              int64_t turn, int later, const REAL *x, const REAL *y, const REAL *dy,
                                              const REAL *v, int64_t width, REAL slope, double *sum, double *dot)
{
    lanes_part sums[TOGETHER][2][PARTS];
    later = later && ahead && length < LONG;
    if (tiles == 1) {               /* the lanes of one channel stay in registers: 0.95 of the time at 28 x 28 */
        lanes_part a[PARTS] = {0}, b[PARTS] = {0};
        for (int64_t run = 0; run < count; run++, start += stride)
            FN(add_gradients_of_run)(sign, relu, length, fetched_from(run < count - 1 ? ahead : turn, length), later,
                                     x + start, y + start, dy + start, v, width, slope, a, b);
        *sum = lanes_total((const double *)a);
        *dot = lanes_total((const double *)b);
        return;
    }
    for (int64_t run = 0; run < count; run++, start += stride) {
        const int64_t next = fetched_from(run < count - 1 ? ahead : turn, length);
        for (int64_t t = 0, at = start; t < tiles; t++, at += length) {
            BORROWED(sums[t], a, b, run == 0);
            FN(add_gradients_of_run)(sign, relu, length, next, later, x + at, y + at, dy + at, v + t, width, slope,
                                     a, b);
            GIVEN_BACK(sums[t], a, b);
        }
    }
    for (int64_t t = 0; t < tiles; t++) {
        sum[t] = lanes_total((const double *)sums[t][0]);
        dot[t] = lanes_total((const double *)sums[t][1]);
    }
}

static void FN(gradient_sums_of_rows)(int sign, int64_t start, int64_t count, int64_t stride, int64_t tiles,
                                      int64_t length, int64_t ahead, int64_t turn, int later, const REAL *x,
                                      const REAL *y, const REAL *dy, const REAL *v, int64_t width, REAL slope,
                                      double *sum, double *dot)
{
    if (!y) y = x;
#define CALL(sign, relu)                                                                                    \
    FN(gradient_sums_of_runs)(sign, relu, start, count, stride, tiles, length, ahead, turn, later, x, y, dy, v, \
                              width, slope, sum, dot)
    CHOOSE_SIGN(sign, slope == 0, CALL)
#undef CALL
}

/* Columns [j, j + 16) of `count` rows, all of which are whole; see sum_columns. */
CHANNEL_INLINE void FN(gradient_sums_of_lanes)(const int sign, const int relu, int64_t count, int64_t stride,
                                               const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                                               int64_t width, REAL slope, double *sum, double *dot)
{
    lanes_part first[PARTS] = {0}, second[PARTS] = {0};
    REAL dz[CHANNEL_LANES];
    for (int64_t run = 0; run < count; run++, x += stride, y += stride, dy += stride) {
        FN(gradient_run)(1, sign, relu, x, y, dy, v, width, slope, dz, CHANNEL_LANES);
        FN(add_lanes)(SUM_AND_DOT, dz, x, 0, 0, first, second);
    }
    memcpy(sum, first, sizeof first);
    memcpy(dot, second, sizeof second);
}

/* The same by column; see sum_columns. */
CHANNEL_INLINE void FN(gradient_sums_of_rows_of)(const int sign, const int relu, int64_t count, int64_t stride,
                                                 int64_t length, int64_t size, const REAL *x, const REAL *y,
                                                 const REAL *dy, const REAL *v, int64_t width, REAL slope,
                                                 double *sum, double *dot)
{
    for (int64_t k = 0; k < length; k += CHANNEL_LANES) {
        const int64_t j = lanes_from(k, length), n = length < CHANNEL_LANES ? length : CHANNEL_LANES;
        const int64_t whole = n == CHANNEL_LANES ? whole_rows(count, stride, size - j) : 0;
        double sums[CHANNEL_LANES], dots[CHANNEL_LANES];
        REAL dz[CHANNEL_LANES];
        FN(gradient_sums_of_lanes)(sign, relu, whole, stride, x + j, y + j, dy + j, v + j, width, slope, sums, dots);
        for (int64_t run = whole; run < count; run++) {
            const int64_t at = run * stride + j, rest = size - at < n ? size - at : n;
            if (rest <= 0) break;
            FN(gradient_run)(1, sign, relu, x + at, y + at, dy + at, v + j, width, slope, dz, rest);
            for (int64_t i = 0; i < rest; i++) sums[i] += dz[i], dots[i] += (double)dz[i] * x[at + i];
        }
        memcpy(sum + j, sums, n * sizeof *sums);
        memcpy(dot + j, dots, n * sizeof *dots);
    }
}

static void FN(gradient_sums_of_columns)(int sign, int64_t start, int64_t count, int64_t stride, int64_t length,
                                         int64_t size, const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                                         int64_t width, REAL slope, double *sum, double *dot)
{
    if (!y) y = x;
#define CALL(sign, relu)                                                                                          \
    FN(gradient_sums_of_rows_of)(sign, relu, count, stride, length, size - start, x + start, y + start, dy + start, \
                                 v, width, slope, sum, dot)
    CHOOSE_SIGN(sign, slope == 0, CALL)
#undef CALL
}

/* dx = dz * by_dz + constant + ((x - high) - low) * by_x, or dz * by_dz alone with frozen statistics */
CHANNEL_INLINE void FN(backward_run)(const int column, const int sign, const int relu, const int frozen,
                                     const REAL *x, const REAL *y, const REAL *dy, const REAL *v, int64_t width,
                                     REAL slope, REAL *dx, int64_t n)
{
    const REAL *high = v + HIGH * width, *low = v + LOW * width, *factor = v + FACTOR * width;
    const REAL *scale = v + SCALE * width, *shift = v + SHIFT * width, *from = v + FROM * width, *to = v + TO * width;
    const REAL *by_dz = v + BY_DZ * width, *by_x = v + BY_X * width, *constant = v + CONSTANT * width;
    FIRST(REAL, high); FIRST(REAL, low); FIRST(REAL, factor); FIRST(REAL, scale); FIRST(REAL, shift);
    FIRST(REAL, from); FIRST(REAL, to); FIRST(REAL, by_dz); FIRST(REAL, by_x); FIRST(REAL, constant);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const REAL centred = (x[j] - VALUE(high)) - VALUE(low);
        const int open = OPEN(j);
        const REAL own = dy[j], other = relu ? 0 : own * slope, dz = open ? own : other;
        if (frozen) dx[j] = dz * VALUE(by_dz);
        else dx[j] = (dz * VALUE(by_dz) + VALUE(constant)) + centred * VALUE(by_x);
    }
}

/* dx of `tiles` runs as in the maps of channel_impl.h; streams: it is written past the caches.  What lies `ahead` in dx
   is fetched, or in dy where dx streams: that of the next group.  With 0, what lies a little further in dx, or in what is
   read. */
CHANNEL_INLINE void FN(backward_runs)(const int column, const int sign, const int relu, const int frozen, int streams,
                                      int64_t tiles, int64_t length, int64_t ahead, const REAL *x, const REAL *y,
                                      const REAL *dy, const REAL *restrict v, int64_t width, REAL slope, REAL *dx)
{
#define CHUNK(j, to, n)                                                                                            \
    do {                                                                                                           \
        if (of_x) CHANNEL_FETCH(x + j + of_x);                                                                     \
        if (of_dy) CHANNEL_FETCH(dy + j + of_dy);                                                                  \
        if (of_dx) CHANNEL_FETCH_NEARER(dx + j + of_dx);                                                           \
        FN(backward_run)(column, sign, relu, frozen, x + j, y + j, dy + j, v + (column ? j : 0), width, slope,     \
                         to, n);                                                                                   \
    } while (0)
    const int64_t near = ahead ? ahead : fetched_from(0, tiles * length);
    const int64_t of_x = streams && !ahead ? near : 0, of_dy = streams ? near : 0, of_dx = streams ? 0 : near;
    for (int64_t t = 0; t < tiles; t++, x += length, y += length, dy += length, dx += length, v++)
        if (streams) IN_LINES(dx, length, CHUNK);
        else IN_CHUNKS(dx, length, CHUNK);
#undef CHUNK
}

/* The runs from `at` on. */
static void FN(backward)(int column, int sign, int frozen, int streams, int64_t at, int64_t tiles, int64_t length,
                         int64_t ahead, const REAL *x, const REAL *y, const REAL *dy, const REAL *v, int64_t width,
                         REAL slope, REAL *dx)
{
    y = (y ? y : x) + at;
    x += at;
    dy += at;
    dx += at;
#define RUNS(column, sign, relu, frozen)                                                                            \
    FN(backward_runs)(column, sign, relu, frozen, streams, tiles, length, ahead, x, y, dy, v, width, slope, dx)
#define CALL(sign, relu)                                            \
    if (column && frozen) RUNS(1, sign, relu, 1);                   \
    else if (column) RUNS(1, sign, relu, 0);                        \
    else if (frozen) RUNS(0, sign, relu, 1);                        \
    else RUNS(0, sign, relu, 0)
    CHOOSE_SIGN(sign, slope == 0, CALL)
#undef CALL
#undef RUNS
}

#undef OPEN
#undef MAPPED
