/* The part of batch_norm.h that is compiled for float and for double. */

/* ---- Forward ---- */

/* Normalisation and affine map, one rounding after the other as in the single ops. */
#define MAPPED(j) (((x[j] - high[j]) - low[j]) * factor[j] * scale[j] + shift[j])
#define SPREAD_MAP()                                    \
    SPREAD(REAL, high, v + HIGH * width);               \
    SPREAD(REAL, low, v + LOW * width);                 \
    SPREAD(REAL, factor, v + FACTOR * width);           \
    SPREAD(REAL, scale, v + SCALE * width);             \
    SPREAD(REAL, shift, v + SHIFT * width)

/* How a visit goes through its elements: `fetch` asks for what is read next, if that lies in no cache; 16 results are
   written past the caches if they are whole lines that are to stream, else what lies behind them is asked for. */
#define EACH_STEP(y, fetch, step, ...)                                             \
    _Pragma("GCC unroll 1")                                                        \
    for (int64_t i = 0; i < visit->count; i++) {                                   \
        fetch;                                                                     \
        if (whole && streams) {                                                    \
            REAL line[LANES] __attribute__((aligned(STREAM_LINE)));                \
            REAL *const result = line;                                             \
            EACH_ELEMENT(__VA_ARGS__)                                              \
            stream_lines(y, line, sizeof line);                                    \
        } else {                                                                   \
            REAL *const result = y;                                                \
            if (whole) CHANNEL_FETCH_NEARER(y + BEFORE);                           \
            EACH_ELEMENT(__VA_ARGS__)                                              \
        }                                                                          \
        step;                                                                      \
    }

/* y = act(mapped x + residual); below 0 the activation is 0 (relu) or a multiple. */
CHANNEL_INLINE void FN(forward_visit)(const Visit *visit, const int whole, const int single, const int add,
                                      const int relu, const int streams, int64_t further, const REAL *x,
                                      const REAL *residual, const REAL *v, int64_t width, REAL slope, REAL *y)
{
    SPREAD_MAP();
    x += visit->at;
    residual += visit->at;
    y += visit->at;
#define FETCH                                                   \
    if (whole && further) CHANNEL_FETCH(x + further);           \
    if (whole && add) CHANNEL_FETCH(residual + (visit->stride == LANES ? FURTHER : BESIDE))
#define STEP x += visit->stride, residual += visit->stride, y += visit->stride
    EACH_STEP(y, FETCH, STEP, {
        REAL z = MAPPED(j);
        if (add) z += residual[j];
        const REAL below = relu ? 0 : z * slope;
        result[j] = z < 0 ? below : z;
    })
#undef FETCH
#undef STEP
}

CHANNEL_INLINE void FN(forward_rows)(const int add, const int relu, const int streams, const Rows *rows,
                                     int64_t further, const REAL *x, const REAL *residual, const REAL *v,
                                     int64_t width, REAL slope, REAL *y)
{
#define HEAD(at) (streams ? stream_head(y + (at)) / (int64_t)sizeof *y : 0)
#define VISIT(visit, whole, single) \
    FN(forward_visit)(visit, whole, single, add, relu, streams, further, x, residual, v, width, slope, y)
    EACH_VISIT(rows, HEAD, VISIT);
#undef VISIT
#undef HEAD
}

/* streams: y, which is no input, is written past the caches; cached: x is in the cache.  residual may be NULL; slope 0
   is relu, and 1 no activation. */
static void FN(forward)(const Rows *rows, int streams, int cached, const REAL *x, const REAL *residual, const REAL *v,
                        int64_t width, REAL slope, REAL *y)
{
    const int64_t further = further_of(rows, cached);
    const REAL *added = (residual ? residual : x) + rows->start;
    x += rows->start;
    y += rows->start;
#define RUNS(add, relu, streams) \
    FN(forward_rows)(add, relu, streams, rows, further, x, added, v, width, slope, y)
#define CALL(add, relu)                 \
    if (streams) RUNS(add, relu, 1);    \
    else RUNS(add, relu, 0)
    if (residual && slope == 0) CALL(1, 1);
    else if (residual) CALL(1, 0);
    else if (slope == 0) CALL(0, 1);
    else CALL(0, 0);
#undef CALL
#undef RUNS
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
    int64_t below = middle - LANES / 2, above = below + LANES - 1, positive = 0;
    for (int i = 0; i < LANES; i++) positive += POSITIVE(OF(below + i));
    if (positive > 0 && positive < LANES) {
        above = below + LANES - positive;
    } else {
        /* else steps that double until the end lies between `below`, where it is not positive, and `above` */
        uint64_t step = LANES;
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
    for (int64_t c = 0; c < n; c += LANES, mean += LANES, v += LANES) {
        const int64_t count = n - c < LANES ? n - c : LANES;
        REAL high[LANES] = {0}, low[LANES] = {0}, factor[LANES] = {0};
        REAL scale[LANES] = {0}, shift[LANES] = {0}, end[LANES];
        double middle[LANES] = {0};
        INTEGER below[LANES], positive[LANES] = {0}, rising[LANES];
        memcpy(high, v + HIGH * width, count * sizeof *v);
        memcpy(low, v + LOW * width, count * sizeof *v);
        memcpy(factor, v + FACTOR * width, count * sizeof *v);
        memcpy(scale, v + SCALE * width, count * sizeof *v);
        memcpy(shift, v + SHIFT * width, count * sizeof *v);
        memcpy(middle, mean, count * sizeof *mean);
        INDEPENDENT
        for (int j = 0; j < LANES; j++) {
            const double slope = (double)factor[j] * scale[j], root = middle[j] - shift[j] / slope;
            const INTEGER rank = FN(rank)((REAL)root);
            rising[j] = slope > 0;
            below[j] = (fabs(root) < 1e30 ? slope > 0 ? rank : -rank : 0) - LANES / 2;
        }
        for (int i = 0; i < LANES; i++) {
            INDEPENDENT
            for (int j = 0; j < LANES; j++) {
                const REAL x = FN(of_rank)(rising[j] ? below[j] + i : -(below[j] + i));
                positive[j] += ((x - high[j]) - low[j]) * factor[j] * scale[j] > -shift[j];
            }
        }
        INDEPENDENT
        for (int j = 0; j < LANES; j++) {
            const INTEGER above = below[j] + LANES - positive[j];
            end[j] = FN(of_rank)(rising[j] ? above : -above);
        }
        for (int64_t j = 0; j < count; j++) {
            REAL *from = v + FROM * width + j, *to = v + TO * width + j;
            *from = rising[j] ? end[j] : -INFINITY;
            *to = rising[j] ? INFINITY : end[j];
            if (positive[j] == 0 || positive[j] == LANES || factor[j] * scale[j] == 0)
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

/* a = scale / sqrt(var + eps), b = (bias - mean) a + shift of n channels; scale, shift, bias may be NULL. */
static void FN(fold_statistics)(int64_t n, const double *mean, const double *var, double eps, const REAL *scale,
                                const REAL *shift, const REAL *bias, REAL *a, REAL *b)
{
    enum { SOME = 64 };
    for (int64_t c0 = 0; c0 < n; c0 += SOME) {
        const int64_t few = n - c0 < SOME ? n - c0 : SOME;
        double factor[SOME], offset[SOME];
        for (int64_t c = 0; c < few; c++) factor[c] = 1 / sqrt(var[c0 + c] + eps) * (scale ? scale[c0 + c] : 1);
        for (int64_t c = 0; c < few; c++) offset[c] = ((bias ? bias[c0 + c] : 0) - mean[c0 + c]) * factor[c];
        for (int64_t c = 0; c < few; c++) a[c0 + c] = (REAL)factor[c];
        for (int64_t c = 0; c < few; c++) b[c0 + c] = (REAL)(offset[c] + (shift ? shift[c0 + c] : 0));
    }
}

/* Whether the activation's output is positive; what is needed to find that. */
#define OPEN(j)                                                            \
    (sign == FROM_Y ? y[j] > 0                                             \
     : sign == FROM_INTERVAL ? (x[j] >= from[j]) & (x[j] <= to[j])         \
     : sign == FROM_MAP ? MAPPED(j) > 0                                    \
                        : 1)
#define SPREAD_SIGN()                                   \
    SPREAD_MAP();                                       \
    SPREAD(REAL, from, v + FROM * width);               \
    SPREAD(REAL, to, v + TO * width)

/* Call `call(sign, relu)`, which are constants in it. */
#define CHOOSE_SIGN(sign, relu, call)                                                               \
    switch ((sign) * 2 + (relu)) {                                                                  \
    case FROM_Y * 2: call(FROM_Y, 0); break; case FROM_Y * 2 + 1: call(FROM_Y, 1); break;           \
    case FROM_INTERVAL * 2: call(FROM_INTERVAL, 0); break;                                          \
    case FROM_INTERVAL * 2 + 1: call(FROM_INTERVAL, 1); break;                                      \
    case FROM_MAP * 2: call(FROM_MAP, 0); break; case FROM_MAP * 2 + 1: call(FROM_MAP, 1); break;   \
    default: call(NO_ACTIVATION, 0);                                                                \
    }

/* dz: dy where the activation's output is positive (`open`), else slope * dy.  Both are computed, and one chosen. */
CHANNEL_INLINE REAL FN(gated)(int open, const int relu, REAL dy, REAL slope)
{
    const REAL other = relu ? 0 : dy * slope;
    return open ? dy : other;
}

CHANNEL_INLINE void FN(gradient_visit)(const Visit *visit, const int whole, const int single, const int sign,
                                       const int relu, const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                                       int64_t width, REAL slope, REAL *dz)
{
    SPREAD_SIGN();
    x += visit->at;
    y += visit->at;
    dy += visit->at;
    dz += visit->at;
    for (int64_t i = 0; i < visit->count; i++) {
        EACH_ELEMENT(dz[j] = FN(gated)(OPEN(j), relu, dy[j], slope);)
        x += visit->stride, y += visit->stride, dy += visit->stride, dz += visit->stride;
    }
}

CHANNEL_INLINE void FN(gradient_rows)(const int sign, const int relu, const Rows *rows, const REAL *x, const REAL *y,
                                      const REAL *dy, const REAL *v, int64_t width, REAL slope, REAL *dz)
{
#define VISIT(visit, whole, single) \
    FN(gradient_visit)(visit, whole, single, sign, relu, x, y, dy, v, width, slope, dz)
    EACH_VISIT(rows, NO_HEAD, VISIT);
#undef VISIT
}

static void FN(gradient)(int sign, const Rows *rows, const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                         int64_t width, REAL slope, REAL *dz)
{
    y = (y ? y : x) + rows->start;
    x += rows->start;
    dy += rows->start;
    dz += rows->start;
#define CALL(sign, relu) FN(gradient_rows)(sign, relu, rows, x, y, dy, v, width, slope, dz)
    CHOOSE_SIGN(sign, slope == 0, CALL)
#undef CALL
}

/* sum = sum dz and dot = sum dz * x, as sum_rows does it.  Where that can be, what is 0 or dy is chosen as it is
   converted, which takes half the instructions. */
CHANNEL_INLINE void FN(gradient_sums_of)(const int sign, const int relu, const Rows *rows, const REAL *x,
                                         const REAL *y, const REAL *dy, const REAL *v, int64_t width, REAL slope,
                                         double *sum, double *dot)
{
    const int chosen = sign == NO_ACTIVATION || (relu && sign != FROM_MAP);
    REAL room[3][LANES], dz[LANES];
#define READY()                                                                                 \
    lanes_part from_parts[PARTS], to_parts[PARTS];                                              \
    SPREAD_SIGN();                                                                              \
    for (int k = 0; k < PARTS; k++) from_parts[k] = FN(part_of)(from + k * PART);               \
    for (int k = 0; k < PARTS; k++) to_parts[k] = FN(part_of)(to + k * PART)
#define ASK(at)                                                                                 \
    do {                                                                                        \
        CHANNEL_FETCH(all_x + (at));                                                            \
        CHANNEL_FETCH(all_dy + (at));                                                           \
        if (sign == FROM_Y) CHANNEL_FETCH(all_y + (at));                                        \
    } while (0)
#define ADD(at, n, mask, first, second)                                                         \
    do {                                                                                        \
        const REAL *x = FN(padded)(all_x + (at), n, room[0]);                                   \
        const REAL *y = sign == FROM_Y ? FN(padded)(all_y + (at), n, room[1]) : x;              \
        const REAL *dy = FN(padded)(all_dy + (at), n, room[2]);                                 \
        const int64_t *which = mask;                                                            \
        if (!chosen) {                                                                          \
            INDEPENDENT                                                                         \
            for (int j = 0; j < LANES; j++) dz[j] = FN(gated)(OPEN(j), relu, dy[j], slope);     \
        }                                                                                       \
        _Pragma("GCC unroll 8")                                                                 \
        for (int k = 0; k < PARTS; k++) {                                                       \
            const lanes_part value = FN(part_of)(x + k * PART);                                 \
            lanes_part z = FN(part_of)((chosen ? dy : dz) + k * PART);                          \
            if (chosen && sign == FROM_INTERVAL)                                                \
                z = LANES_WHERE((value >= from_parts[k]) & (value <= to_parts[k]), z);          \
            if (chosen && sign == FROM_Y) z = LANES_WHERE(FN(part_of)(y + k * PART) > 0, z);    \
            if (which) z = LANES_WHERE(PART_OF_MASK(which, k), z);                              \
            first[k] += z;                                                                      \
            second[k] = FN(sum_of_product)(second[k], z, value);                                \
        }                                                                                       \
    } while (0)
    const REAL *const all_x = x + rows->start, *const all_dy = dy + rows->start;
    const REAL *const all_y = (y ? y : x) + rows->start;
    SUM_ROWS(rows, READY, ASK, ADD, sum, dot);
#undef READY
#undef ASK
#undef ADD
}

static void FN(gradient_sums)(int sign, const Rows *rows, const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                              int64_t width, REAL slope, double *sum, double *dot)
{
#define CALL(sign, relu) FN(gradient_sums_of)(sign, relu, rows, x, y, dy, v, width, slope, sum, dot)
    CHOOSE_SIGN(sign, slope == 0, CALL)
#undef CALL
}

/* dx = dz * by_dz + constant + ((x - high) - low) * by_x, or dz * by_dz alone with frozen statistics */
CHANNEL_INLINE void FN(backward_visit)(const Visit *visit, const int whole, const int single, const int sign,
                                       const int relu, const int frozen, const int streams, int64_t further,
                                       const REAL *x, const REAL *y, const REAL *dy, const REAL *v, int64_t width,
                                       REAL slope, REAL *dx)
{
    SPREAD_SIGN();
    SPREAD(REAL, by_dz, v + BY_DZ * width);
    SPREAD(REAL, by_x, v + BY_X * width);
    SPREAD(REAL, constant, v + CONSTANT * width);
    x += visit->at;
    y += visit->at;
    dy += visit->at;
    dx += visit->at;
#define FETCH                                                                           \
    if (whole && further && (!frozen || sign != NO_ACTIVATION)) CHANNEL_FETCH(x + further); \
    if (whole && further) CHANNEL_FETCH(dy + further)
#define STEP x += visit->stride, y += visit->stride, dy += visit->stride, dx += visit->stride
    EACH_STEP(dx, FETCH, STEP, {
        const REAL centred = (x[j] - high[j]) - low[j], dz = FN(gated)(OPEN(j), relu, dy[j], slope);
        if (frozen) result[j] = dz * by_dz[j];
        else result[j] = (dz * by_dz[j] + constant[j]) + centred * by_x[j];
    })
#undef FETCH
#undef STEP
}

CHANNEL_INLINE void FN(backward_rows)(const int sign, const int relu, const int frozen, const int streams,
                                      const Rows *rows, int64_t further, const REAL *x, const REAL *y,
                                      const REAL *dy, const REAL *v, int64_t width, REAL slope, REAL *dx)
{
#define HEAD(at) (streams ? stream_head(dx + (at)) / (int64_t)sizeof *dx : 0)
#define VISIT(visit, whole, single) \
    FN(backward_visit)(visit, whole, single, sign, relu, frozen, streams, further, x, y, dy, v, width, slope, dx)
    EACH_VISIT(rows, HEAD, VISIT);
#undef VISIT
#undef HEAD
}

/* streams: dx, which is no input, is written past the caches; cached: x and dy are in the cache. */
static void FN(backward)(int sign, int frozen, const Rows *rows, int streams, int cached, const REAL *x, const REAL *y,
                         const REAL *dy, const REAL *v, int64_t width, REAL slope, REAL *dx)
{
    const int64_t further = further_of(rows, cached);
    y = (y ? y : x) + rows->start;
    x += rows->start;
    dy += rows->start;
    dx += rows->start;
#define RUNS(sign, relu, frozen, streams) \
    FN(backward_rows)(sign, relu, frozen, streams, rows, further, x, y, dy, v, width, slope, dx)
#define CALL(sign, relu)                                    \
    if (frozen && streams) RUNS(sign, relu, 1, 1);          \
    else if (frozen) RUNS(sign, relu, 1, 0);                \
    else if (streams) RUNS(sign, relu, 0, 1);               \
    else RUNS(sign, relu, 0, 0)
    CHOOSE_SIGN(sign, slope == 0, CALL)
#undef CALL
#undef RUNS
}

#undef OPEN
#undef SPREAD_SIGN
#undef SPREAD_MAP
#undef MAPPED
#undef CHOOSE_SIGN
#undef EACH_STEP
