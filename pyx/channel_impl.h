/* The part of channel.h that is compiled for float and for double. */

/* ---- Sums ---- */

/* Add 16 elements to the lanes; a mask, if there is one, says which of them count. */
CHANNEL_INLINE void FN(add_lanes)(const int what, const REAL *x, const REAL *y, const lanes_part *mean,
                                  const int64_t *mask, lanes_part *first, lanes_part *second)
{
#pragma GCC unroll 8
    for (int k = 0; k < PARTS; k++) {
        lanes_part u = FN(part_of)(x + k * PART), v = u;
        if (what == DEVIATIONS) v = u - mean[k];
        if (what == DOT || what == SUM_AND_DOT) v = FN(part_of)(y + k * PART);
        if (mask) {
            u = LANES_WHERE(PART_OF_MASK(mask, k), u);
            v = LANES_WHERE(PART_OF_MASK(mask, k), v);
        }
        if (what != DOT) first[k] += u;
        if (what == DEVIATIONS) second[k] += v * v;
        else if (what != SUM) second[k] = FN(sum_of_product)(second[k], u, v);
    }
}

/* 16 elements, or n, and zeros behind them. */
CHANNEL_INLINE const REAL *FN(padded)(const REAL *x, int64_t n, REAL *room)
{
    if (n == LANES) return x;
    memset(room, 0, LANES * sizeof *room);
    memcpy(room, x, n * sizeof *room);
    return room;
}

/* For each span of `rows` (each column, where places = 1):
     SUM          first = sum x
     DEVIATIONS   first = sum x,   second = sum (x - mean)^2
     DOT                           second = sum x y
     SUM_AND_DOT  first = sum x,   second = sum x y
   mean, first and second begin at the first span; what is not wanted may be NULL. */
CHANNEL_INLINE void FN(sum_rows_of)(const int what, const Rows *rows, const REAL *x, const REAL *y,
                                    const double *mean, double *first, double *second)
{
    REAL room[2][LANES];
#define READY()                                                                             \
    lanes_part means[PARTS];                                                                \
    if (what == DEVIATIONS) {                                                               \
        SPREAD(double, of_lanes, mean);                                                     \
        memcpy(means, of_lanes, sizeof means);                                              \
    }
#define ASK(at)                                                                             \
    do {                                                                                    \
        CHANNEL_FETCH(x + (at));                                                            \
        if (what == DOT || what == SUM_AND_DOT) CHANNEL_FETCH(y + (at));                    \
    } while (0)
#define ADD(at, n, mask, a, b)                                                              \
    FN(add_lanes)(what, FN(padded)(x + (at), n, room[0]),                                   \
                  what == DOT || what == SUM_AND_DOT ? FN(padded)(y + (at), n, room[1]) : 0, means, mask, a, b)
    x += rows->start;
    y += rows->start;
    SUM_ROWS(rows, READY, ASK, ADD, first, second);
#undef READY
#undef ASK
#undef ADD
}

static void FN(sum_rows)(int what, const Rows *rows, const REAL *x, const REAL *y, const double *mean, double *first,
                         double *second)
{
    if (what == SUM) FN(sum_rows_of)(SUM, rows, x, x, 0, first, 0);
    else if (what == DOT) FN(sum_rows_of)(DOT, rows, x, y, 0, 0, second);
    else if (what == DEVIATIONS) FN(sum_rows_of)(DEVIATIONS, rows, x, x, mean, first, second);
    else FN(sum_rows_of)(SUM_AND_DOT, rows, x, y, 0, first, second);
}

/* About the mean, from 16 elements of each of the first images, `stride` apart; 0 where that overflows.

   A number that is none of float32: the squares of floats' differences from one of theirs lie on so coarse a grid that
   rounding their sums has a direction, and cost a digit. */
static double FN(estimate)(const REAL *x, int64_t count, int64_t stride)
{
    REAL sum[LANES] = {0};
    const int64_t images = count < SAMPLED ? count : SAMPLED;
    for (int64_t i = 0; i < images; i++, x += stride) {
        INDEPENDENT
        for (int j = 0; j < LANES; j++) sum[j] += x[j];
    }
    const double off = 1e-9 * sum[0];
#pragma GCC unroll 4
    for (int half = LANES / 2; half; half /= 2)
        for (int j = 0; j < half; j++) sum[j] += sum[j + half];
    const double mean = sum[0] / (double)(images * LANES) + off;
    return mean - mean == 0 ? mean : 0;
}

/* ---- Maps of rows ---- */

/* y = ((x - high) - low) * factor: the mean in two parts, so that only the difference is rounded */
CHANNEL_INLINE void FN(normalize_visit)(const Visit *visit, const int whole, const int single, const REAL *x,
                                        const REAL *high, const REAL *low, const REAL *factor, REAL *y)
{
    SPREAD(REAL, h, high);
    SPREAD(REAL, l, low);
    SPREAD(REAL, f, factor);
    x += visit->at;
    y += visit->at;
    for (int64_t i = 0; i < visit->count; i++, x += visit->stride, y += visit->stride)
        EACH_ELEMENT(y[j] = ((x[j] - h[j]) - l[j]) * f[j];)
}

static void FN(normalize)(const Rows *rows, const REAL *x, const REAL *high, const REAL *low, const REAL *factor,
                          REAL *y)
{
    x += rows->start;
    y += rows->start;
#define VISIT(visit, whole, single) FN(normalize_visit)(visit, whole, single, x, high, low, factor, y)
    EACH_VISIT(rows, NO_HEAD, VISIT);
#undef VISIT
}

/* y = x * scale + shift */
CHANNEL_INLINE void FN(affine_visit)(const Visit *visit, const int whole, const int single, const REAL *x,
                                     const REAL *scale, const REAL *shift, REAL *y)
{
    SPREAD(REAL, a, scale);
    SPREAD(REAL, b, shift);
    x += visit->at;
    y += visit->at;
    for (int64_t i = 0; i < visit->count; i++, x += visit->stride, y += visit->stride)
        EACH_ELEMENT(y[j] = x[j] * a[j] + b[j];)
}

static void FN(affine)(const Rows *rows, const REAL *x, const REAL *scale, const REAL *shift, REAL *y)
{
    x += rows->start;
    y += rows->start;
#define VISIT(visit, whole, single) FN(affine_visit)(visit, whole, single, x, scale, shift, y)
    EACH_VISIT(rows, NO_HEAD, VISIT);
#undef VISIT
}

/* dx = (dy - mean_dy - y * mean_dy_y) * inv_std */
CHANNEL_INLINE void FN(normalize_backward_visit)(const Visit *visit, const int whole, const int single,
                                                 const REAL *dy, const REAL *y, const double *mean_dy,
                                                 const double *mean_dy_y, const double *inv_std, REAL *dx)
{
    SPREAD(double, m, mean_dy);
    SPREAD(double, d, mean_dy_y);
    SPREAD(double, s, inv_std);
    dy += visit->at;
    y += visit->at;
    dx += visit->at;
    for (int64_t i = 0; i < visit->count; i++, dy += visit->stride, y += visit->stride, dx += visit->stride)
        EACH_ELEMENT(dx[j] = (REAL)((dy[j] - m[j] - y[j] * d[j]) * s[j]);)
}

static void FN(normalize_backward)(const Rows *rows, const REAL *dy, const REAL *y, const double *mean_dy,
                                   const double *mean_dy_y, const double *inv_std, REAL *dx)
{
    dy += rows->start;
    y += rows->start;
    dx += rows->start;
#define VISIT(visit, whole, single) \
    FN(normalize_backward_visit)(visit, whole, single, dy, y, mean_dy, mean_dy_y, inv_std, dx)
    EACH_VISIT(rows, NO_HEAD, VISIT);
#undef VISIT
}

/* y = value where x > 0, else value * slope */
CHANNEL_INLINE void FN(prelu_visit)(const Visit *visit, const int whole, const int single, const REAL *x,
                                    const REAL *value, const REAL *slope, REAL *y)
{
    SPREAD(REAL, a, slope);
    x += visit->at;
    value += visit->at;
    y += visit->at;
    for (int64_t i = 0; i < visit->count; i++, x += visit->stride, value += visit->stride, y += visit->stride)
        EACH_ELEMENT({ const REAL below = value[j] * a[j]; y[j] = x[j] > 0 ? value[j] : below; })
}

static void FN(prelu)(const Rows *rows, const REAL *x, const REAL *value, const REAL *slope, REAL *y)
{
    x += rows->start;
    value += rows->start;
    y += rows->start;
#define VISIT(visit, whole, single) FN(prelu_visit)(visit, whole, single, x, value, slope, y)
    EACH_VISIT(rows, NO_HEAD, VISIT);
#undef VISIT
}
