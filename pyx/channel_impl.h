/* The part of channel.h that is compiled for float and for double. */

/* ---- Sums by row ---- */

/* Add 16 elements to the lanes; a mask, if there is one, says which of them count. */
CHANNEL_INLINE void FN(add_lanes)(const int what, const REAL *x, const REAL *y, const double mean,
                                  const int64_t *mask, lanes_part *first, lanes_part *second)
{
#pragma GCC unroll 8
    for (int k = 0; k < PARTS; k++) {
        if (mask && !mask[(k + 1) * PART - 1]) continue;
        lanes_part u = FN(part_of)(x + k * PART), v = u;
        if (what == DEVIATIONS) v = u - mean;
        if (what == DOT || what == SUM_AND_DOT) v = FN(part_of)(y + k * PART);
        if (mask) {
            const lanes_mask keep = *(const lanes_mask *)(mask + k * PART);
            u = LANES_WHERE(keep, u);
            v = LANES_WHERE(keep, v);
        }
        if (what != DOT) first[k] += u;
        if (what == DEVIATIONS) second[k] += v * v;
        else if (what != SUM) second[k] = FN(sum_of_product)(second[k], u, v);
    }
}

/* Add a run of 16 elements or more to the lanes; what lies `ahead` in the tensors that are read is fetched. */
CHANNEL_INLINE void FN(add_run)(const int what, const REAL *x, const REAL *y, int64_t length, int64_t ahead,
                                double mean, lanes_part *first, lanes_part *second)
{
    const int64_t rest = length % CHANNEL_LANES, whole = length - rest, last = length - CHANNEL_LANES;
    for (int64_t i = 0; i < whole; i += CHANNEL_LANES) {
        if (ahead) CHANNEL_FETCH(x + i + ahead);
        if (ahead && what == SUM_AND_DOT) CHANNEL_FETCH(y + i + ahead);
        FN(add_lanes)(what, x + i, y + i, mean, 0, first, second);
    }
    if (rest) FN(add_lanes)(what, x + last, y + last, mean, channel_masks + rest, first, second);
}

/* For each of `tiles` runs of `length` elements that follow each other, sums over `count` such runs, `stride` apart:
     SUM          first = sum x
     DEVIATIONS   first = sum x,   second = sum (x - mean)^2
     DOT                           second = sum x y
     SUM_AND_DOT  first = sum x,   second = sum x y
   They are visited as they lie in memory, and the lanes of all tiles kept meanwhile.  What lies `ahead` is fetched,
   in the last of the `count` visits what lies at the `turn`. */
CHANNEL_INLINE void FN(sum_runs)(const int what, const REAL *x, const REAL *y, int64_t count, int64_t stride,
                                 int64_t tiles, int64_t length, int64_t ahead, int64_t turn, const double *mean,
                                 double *first, double *second)
{
    lanes_part sums[TOGETHER][2][PARTS];
    for (int64_t run = 0; run < count; run++) {
        const int64_t next = fetched_from(run < count - 1 ? ahead : turn, length);
        for (int64_t t = 0, at = run * stride; t < tiles; t++, at += length) {
            BORROWED(sums[t], a, b, run == 0);
            FN(add_run)(what, x + at, y + at, length, next, what == DEVIATIONS ? mean[t] : 0, a, b);
            GIVEN_BACK(sums[t], a, b);
        }
    }
    for (int64_t t = 0; t < tiles; t++) {
        if (what != DOT) first[t] = lanes_total((const double *)sums[t][0]);
        if (what != SUM) second[t] = lanes_total((const double *)sums[t][1]);
    }
}

static void FN(sum_rows)(int what, const REAL *x, const REAL *y, int64_t count, int64_t stride, int64_t tiles,
                         int64_t length, int64_t ahead, int64_t turn, const double *mean, double *first,
                         double *second)
{
#define CALL(what) FN(sum_runs)(what, x, y, count, stride, tiles, length, ahead, turn, mean, first, second)
    if (what == SUM) CALL(SUM);
    else if (what == DOT) CALL(DOT);
    else if (what == DEVIATIONS) CALL(DEVIATIONS);
    else CALL(SUM_AND_DOT);
#undef CALL
}

/* About the mean, from 16 elements of each of the first images, `stride` apart; 0 where that overflows.

   A number that is none of float32: the squares of floats' differences from one of theirs lie on so coarse a grid that
   rounding their sums has a direction, and cost a digit. */
static double FN(estimate)(const REAL *x, int64_t count, int64_t stride)
{
    REAL sum[CHANNEL_LANES] = {0};
    const int64_t images = count < SAMPLED ? count : SAMPLED;
    for (int64_t i = 0; i < images; i++, x += stride) {
        INDEPENDENT
        for (int j = 0; j < CHANNEL_LANES; j++) sum[j] += x[j];
    }
    const double off = 1e-9 * sum[0];
#pragma GCC unroll 4
    for (int half = CHANNEL_LANES / 2; half; half /= 2)
        for (int j = 0; j < half; j++) sum[j] += sum[j + half];
    const double mean = sum[0] / (double)(images * CHANNEL_LANES) + off;
    return mean - mean == 0 ? mean : 0;
}

/* ---- Sums by column: rows of `length` columns, `stride` apart, of x which ends after `size` elements ----

   16 columns at a time, so that their sums stay in registers; what is left is summed once more with columns before. */

/* Columns [0, 16) of `count` rows, all of which are whole. */
CHANNEL_INLINE void FN(sum_lanes)(const int what, const REAL *x, const REAL *y, int64_t count, int64_t stride,
                                  const double *mean, double *first, double *second)
{
    lanes_part a[PARTS] = {0}, b[PARTS] = {0}, m[PARTS] = {0};
    if (what == DEVIATIONS) memcpy(m, mean, sizeof m);
    for (int64_t run = 0; run < count; run++, x += stride, y += stride)
#pragma GCC unroll 8
        for (int k = 0; k < PARTS; k++) {
            lanes_part u = FN(part_of)(x + k * PART), v = u;
            if (what == DEVIATIONS) v = u -= m[k];
            if (what == DOT || what == SUM_AND_DOT) v = FN(part_of)(y + k * PART);
            if (what == SUM || what == SUM_AND_DOT) a[k] += u;
            if (what != SUM) b[k] += u * v;
        }
    if (what == SUM || what == SUM_AND_DOT) memcpy(first, a, sizeof a);
    if (what != SUM) memcpy(second, b, sizeof b);
}

CHANNEL_INLINE void FN(sum_column)(const int what, const REAL *x, const REAL *y, int64_t count, int64_t stride,
                                   int64_t length, int64_t size, const double *mean, double *first, double *second)
{
    for (int64_t k = 0; k < length; k += CHANNEL_LANES) {
        const int64_t j = lanes_from(k, length), n = length < CHANNEL_LANES ? length : CHANNEL_LANES;
        const int64_t whole = n == CHANNEL_LANES ? whole_rows(count, stride, size - j) : 0;
        double sums[CHANNEL_LANES] = {0}, squares[CHANNEL_LANES] = {0};
        if (whole) FN(sum_lanes)(what, x + j, y + j, whole, stride, mean + j, sums, squares);
        for (int64_t run = whole; run < count; run++)
            for (int64_t i = 0, at = run * stride + j; i < n && at < size; i++, at++) {
                const double u = what == DEVIATIONS ? x[at] - mean[j + i] : x[at];
                const double v = what == DEVIATIONS ? u : y[at];
                sums[i] += u;
                squares[i] += u * v;
            }
        if (what == SUM || what == SUM_AND_DOT) memcpy(first + j, sums, n * sizeof *sums);
        if (what != SUM) memcpy(second + j, squares, n * sizeof *squares);
    }
}

static void FN(sum_columns)(int what, const REAL *x, const REAL *y, int64_t count, int64_t stride, int64_t length,
                            int64_t size, const double *mean, double *first, double *second)
{
    if (what == SUM) FN(sum_column)(SUM, x, x, count, stride, length, size, mean, first, second);
    else if (what == DOT) FN(sum_column)(DOT, x, y, count, stride, length, size, mean, first, second);
    else if (what == DEVIATIONS) FN(sum_column)(DEVIATIONS, x, x, count, stride, length, size, mean, first, second);
    else FN(sum_column)(SUM_AND_DOT, x, y, count, stride, length, size, mean, first, second);
}

/* ---- Maps of `tiles` runs of `length` elements that follow each other, the first at `at` ----

   Vectors over the channels have one value for all elements of a run (by row), or one for each (by column, where
   there is one run). */

#define VALUE(v) (column ? (v)[j] : v##_0)
#define FIRST(type, v) const type v##_0 = (v)[0]

/* y = ((x - high) - low) * factor: the mean in two parts, so that only the difference is rounded */
CHANNEL_INLINE void FN(normalize_run)(const int column, const REAL *x, const REAL *high, const REAL *low,
                                      const REAL *factor, REAL *y, int64_t n)
{
    FIRST(REAL, high); FIRST(REAL, low); FIRST(REAL, factor);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) y[j] = ((x[j] - VALUE(high)) - VALUE(low)) * VALUE(factor);
}

static void FN(normalize)(int column, int64_t at, int64_t tiles, int64_t length, const REAL *x, const REAL *high,
                          const REAL *low, const REAL *factor, REAL *y)
{
#define BY_COLUMN(j, to, n) FN(normalize_run)(1, x + at + j, high + j, low + j, factor + j, to, n)
#define BY_ROW(j, to, n) FN(normalize_run)(0, x + at + j, high + t, low + t, factor + t, to, n)
    if (column) IN_CHUNKS(y + at, length, BY_COLUMN);
    else for (int64_t t = 0; t < tiles; t++, at += length) IN_CHUNKS(y + at, length, BY_ROW);
#undef BY_COLUMN
#undef BY_ROW
}

/* y = x * scale + shift */
CHANNEL_INLINE void FN(affine_run)(const int column, const REAL *x, const REAL *scale, const REAL *shift, REAL *y,
                                   int64_t n)
{
    FIRST(REAL, scale); FIRST(REAL, shift);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) y[j] = x[j] * VALUE(scale) + VALUE(shift);
}

static void FN(affine)(int column, int64_t at, int64_t tiles, int64_t length, const REAL *x, const REAL *scale,
                       const REAL *shift, REAL *y)
{
#define BY_COLUMN(j, to, n) FN(affine_run)(1, x + at + j, scale + j, shift + j, to, n)
#define BY_ROW(j, to, n) FN(affine_run)(0, x + at + j, scale + t, shift + t, to, n)
    if (column) IN_CHUNKS(y + at, length, BY_COLUMN);
    else for (int64_t t = 0; t < tiles; t++, at += length) IN_CHUNKS(y + at, length, BY_ROW);
#undef BY_COLUMN
#undef BY_ROW
}

/* dx = (dy - mean_dy - y * mean_dy_y) * inv_std */
CHANNEL_INLINE void FN(normalize_backward_run)(const int column, const REAL *dy, const REAL *y, const double *mean_dy,
                                               const double *mean_dy_y, const double *inv_std, REAL *dx, int64_t n)
{
    FIRST(double, mean_dy); FIRST(double, mean_dy_y); FIRST(double, inv_std);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++)
        dx[j] = (REAL)((dy[j] - VALUE(mean_dy) - y[j] * VALUE(mean_dy_y)) * VALUE(inv_std));
}

static void FN(normalize_backward)(int column, int64_t at, int64_t tiles, int64_t length, const REAL *dy,
                                   const REAL *y, const double *mean_dy, const double *mean_dy_y,
                                   const double *inv_std, REAL *dx)
{
#define BY_COLUMN(j, to, n) \
    FN(normalize_backward_run)(1, dy + at + j, y + at + j, mean_dy + j, mean_dy_y + j, inv_std + j, to, n)
#define BY_ROW(j, to, n) \
    FN(normalize_backward_run)(0, dy + at + j, y + at + j, mean_dy + t, mean_dy_y + t, inv_std + t, to, n)
    if (column) IN_CHUNKS(dx + at, length, BY_COLUMN);
    else for (int64_t t = 0; t < tiles; t++, at += length) IN_CHUNKS(dx + at, length, BY_ROW);
#undef BY_COLUMN
#undef BY_ROW
}

/* y = value where x > 0, else value * slope */
CHANNEL_INLINE void FN(prelu_run)(const int column, const REAL *x, const REAL *value, const REAL *slope, REAL *y,
                                  int64_t n)
{
    FIRST(REAL, slope);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const REAL below = value[j] * VALUE(slope);
        y[j] = x[j] > 0 ? value[j] : below;
    }
}

static void FN(prelu)(int column, int64_t at, int64_t tiles, int64_t length, const REAL *x, const REAL *value,
                      const REAL *slope, REAL *y)
{
#define BY_COLUMN(j, to, n) FN(prelu_run)(1, x + at + j, value + at + j, slope + j, to, n)
#define BY_ROW(j, to, n) FN(prelu_run)(0, x + at + j, value + at + j, slope + t, to, n)
    if (column) IN_CHUNKS(y + at, length, BY_COLUMN);
    else for (int64_t t = 0; t < tiles; t++, at += length) IN_CHUNKS(y + at, length, BY_ROW);
#undef BY_COLUMN
#undef BY_ROW
}
