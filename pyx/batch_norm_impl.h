/* The part of batch_norm.h that is compiled for float and for double. */

/* ---- Forward ---- */

/* y = act(((x - high) - low) * factor * scale + shift + residual), one rounding after the other as in the single
   ops; below 0 the activation is 0 (relu) or a multiple. */
CHANNEL_INLINE void FN(forward_run)(const int column, const int add, const int relu, const REAL *x,
                                    const REAL *residual, const REAL *v, int64_t width, REAL slope, REAL *y, int64_t n)
{
    const REAL *high = v + HIGH * width, *low = v + LOW * width, *factor = v + FACTOR * width;
    const REAL *scale = v + SCALE * width, *shift = v + SHIFT * width;
    FIRST(REAL, high); FIRST(REAL, low); FIRST(REAL, factor); FIRST(REAL, scale); FIRST(REAL, shift);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        REAL z = ((x[j] - VALUE(high)) - VALUE(low)) * VALUE(factor) * VALUE(scale) + VALUE(shift);
        if (add) z += residual[j];
        const REAL below = relu ? 0 : z * slope;
        y[j] = z < 0 ? below : z;
    }
}

/* y = act(x * a + b + residual), rounded to y's dtype before the activation. */
CHANNEL_INLINE void FN(affine_act_run)(const int column, const int add, const int relu, const REAL *x,
                                       const REAL *residual, const double *a, const double *b, REAL slope, REAL *y,
                                       int64_t n)
{
    FIRST(double, a); FIRST(double, b);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        double t = x[j] * VALUE(a) + VALUE(b);
        if (add) t += residual[j];
        const REAL z = (REAL)t, below = relu ? 0 : z * slope;
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

/* Runs as in the maps of channel_impl.h; what lies `ahead` of x is fetched.  residual may be NULL; slope 0 is relu, and
   1 no activation. */
CHANNEL_INLINE void FN(forward_runs)(const int column, const int add, const int relu, int64_t at, int64_t tiles,
                                     int64_t length, int64_t ahead, const REAL *x, const REAL *residual,
                                     const REAL *v, int64_t width, REAL slope, REAL *y)
{
    for (int64_t t = 0; t < tiles; t++)
        for (int64_t i = 0, n; i < length; i += n, at += n) {
            n = length - i < CHANNEL_PIECE ? length - i : CHANNEL_PIECE;
            if (ahead) CHANNEL_FETCH(x + at + ahead, n);
            FN(forward_run)(column, add, relu, x + at, add ? residual + at : x, v + (column ? i : t), width, slope, y + at, n);
        }
}

static void FN(forward)(int column, int64_t at, int64_t tiles, int64_t length, int64_t ahead, const REAL *x,
                        const REAL *residual, const REAL *v, int64_t width, REAL slope, REAL *y)
{
#define CALL(c, a, u) FN(forward_runs)(c, a, u, at, tiles, length, ahead, x, residual, v, width, slope, y)
    CHOOSE(column, residual != 0, slope == 0, CALL)
#undef CALL
}

CHANNEL_INLINE void FN(affine_act_runs)(const int column, const int add, const int relu, int64_t at, int64_t tiles,
                                        int64_t length, const REAL *x, const REAL *residual, const double *a,
                                        const double *b, REAL slope, REAL *y)
{
    for (int64_t t = 0; t < tiles; t++, at += length)
        FN(affine_act_run)(column, add, relu, x + at, add ? residual + at : x, a + t, b + t, slope, y + at, length);
}

static void FN(affine_act)(int column, int64_t at, int64_t tiles, int64_t length, const REAL *x, const REAL *residual,
                           const double *a, const double *b, REAL slope, REAL *y)
{
#define CALL(c, d, u) FN(affine_act_runs)(c, d, u, at, tiles, length, x, residual, a, b, slope, y)
    CHOOSE(column, residual != 0, slope == 0, CALL)
#undef CALL
}

/* ---- Backward ---- */

/* dz = dy where the activation's output is positive, else slope * dy. */
CHANNEL_INLINE void FN(gradient_run)(const int column, const int sign, const REAL *x, const REAL *y, const REAL *dy,
                                     const REAL *v, const double *a, int64_t width, REAL slope, REAL *dz, int64_t n)
{
    const REAL *high = v + HIGH * width, *low = v + LOW * width, *factor = v + FACTOR * width;
    const REAL *scale = v + SCALE * width, *shift = v + SHIFT * width;
    const double *b = a + width;
    FIRST(REAL, high); FIRST(REAL, low); FIRST(REAL, factor); FIRST(REAL, scale); FIRST(REAL, shift);
    FIRST(double, a); FIRST(double, b);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        REAL z;
        if (sign == FROM_Y) z = y[j];
        else if (sign == FROM_FROZEN) z = (REAL)(x[j] * VALUE(a) + VALUE(b));
        else z = ((x[j] - VALUE(high)) - VALUE(low)) * VALUE(factor) * VALUE(scale) + VALUE(shift);
        dz[j] = dy[j] * (z > 0 ? 1 : slope);
    }
}

static void FN(gradient_of_run)(int column, int sign, const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                                const double *a, int64_t width, REAL slope, REAL *dz, int64_t n)
{
    if (sign == NO_ACTIVATION) {
        if (dz != dy) for (int64_t j = 0; j < n; j++) dz[j] = dy[j];
    } else if (sign == FROM_Y) FN(gradient_run)(0, FROM_Y, x, y, dy, v, a, width, slope, dz, n);
    else if (sign == FROM_BATCH) {
        if (column) FN(gradient_run)(1, FROM_BATCH, x, y, dy, v, a, width, slope, dz, n);
        else FN(gradient_run)(0, FROM_BATCH, x, y, dy, v, a, width, slope, dz, n);
    } else {
        if (column) FN(gradient_run)(1, FROM_FROZEN, x, y, dy, v, a, width, slope, dz, n);
        else FN(gradient_run)(0, FROM_FROZEN, x, y, dy, v, a, width, slope, dz, n);
    }
}

/* dz of runs as in the maps of channel_impl.h. */
static void FN(gradient)(int column, int sign, int64_t at, int64_t tiles, int64_t length, const REAL *x,
                         const REAL *y, const REAL *dy, const REAL *v, const double *a, int64_t width, REAL slope,
                         REAL *dz)
{
    for (int64_t t = 0; t < tiles; t++, at += length)
        FN(gradient_of_run)(column, sign, x + at, y ? y + at : 0, dy + at, v + t, a + t, width, slope, dz + at, length);
}

typedef REAL FN(slice) __attribute__((vector_size(PART * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

/* gradient_run for as many elements as a register of the lanes has. */
CHANNEL_INLINE FN(slice) FN(gradient_slice)(const int sign, const REAL *x, const REAL *y, const REAL *dy,
                                            const REAL *v, const double *a, int64_t width, REAL slope)
{
    const FN(slice) from = *(const FN(slice) *)x, dz = *(const FN(slice) *)dy;
    FN(slice) z;
    if (sign == NO_ACTIVATION) return dz;
    if (sign == FROM_Y) z = *(const FN(slice) *)y;
    else if (sign == FROM_FROZEN) z = __builtin_convertvector(PART_OF(x) * a[0] + a[width], FN(slice));
    else z = ((from - v[HIGH * width]) - v[LOW * width]) * v[FACTOR * width] * v[SCALE * width] + v[SHIFT * width];
    const FN(slice) zero = {0}, one = zero + 1, other = zero + slope;
    const __typeof__(z > zero) open = z > zero;
    return dz * (FN(slice))((open & (__typeof__(open))one) | (~open & (__typeof__(open))other));
}

/* Add 16 dz and dz * x to the lanes; see add_lanes. */
CHANNEL_INLINE void FN(add_gradients)(const int sign, const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                                      const double *a, int64_t width, REAL slope, const int64_t *mask,
                                      lanes_part *first, lanes_part *second)
{
#pragma GCC unroll 8
    for (int k = 0; k < PARTS; k++) {
        const int at = k * PART;
        const FN(slice) dz = FN(gradient_slice)(sign, x + at, y + at, dy + at, v, a, width, slope);
        lanes_part u = PART_OF_SLICE(dz), w = PART_OF(x + at);
        if (mask) {
            const lanes_mask keep = *(const lanes_mask *)(mask + at);
            u = (lanes_part)((lanes_mask)u & keep);
            w = (lanes_part)((lanes_mask)w & keep);
        }
        first[k] += u;
        second[k] += u * w;
    }
}

/* sum = sum dz and dot = sum dz * x, by row, of `count` runs of `length` elements, the first at `start`; what lies at
   the same places of `soon` is fetched. */
CHANNEL_INLINE void FN(gradient_sums_of_runs)(const int sign, int64_t start, int64_t count, int64_t stride,
                                              int64_t length, const REAL *x, const REAL *y, const REAL *dy,
                                              const REAL *soon, const REAL *v, const double *a, int64_t width,
                                              REAL slope, double *sum, double *dot)
{
    lanes_part first[PARTS] = {0}, second[PARTS] = {0};
    const int64_t rest = length % CHANNEL_LANES;
    for (int64_t run = 0; run < count; run++, start += stride) {
        const int64_t whole = start + length - rest, last = start + length - CHANNEL_LANES;
        for (int64_t i = start; i < whole; i += CHANNEL_LANES) {
            CHANNEL_FETCH(soon + i, CHANNEL_LANES);
            FN(add_gradients)(sign, x + i, y + i, dy + i, v, a, width, slope, 0, first, second);
        }
        if (rest)
            FN(add_gradients)(sign, x + last, y + last, dy + last, v, a, width, slope, channel_masks + rest, first,
                              second);
    }
    *sum = lanes_total(first);
    *dot = lanes_total(second);
}

static void FN(gradient_sums_of_rows)(int sign, int64_t start, int64_t count, int64_t stride, int64_t length,
                                      const REAL *x, const REAL *y, const REAL *dy, const REAL *soon, const REAL *v,
                                      const double *a, int64_t width, REAL slope, double *sum, double *dot)
{
#define CALL(sign, y) \
    FN(gradient_sums_of_runs)(sign, start, count, stride, length, x, y, dy, soon, v, a, width, slope, sum, dot)
    switch (sign) {
    case NO_ACTIVATION: CALL(NO_ACTIVATION, x); break;
    case FROM_Y: CALL(FROM_Y, y); break;
    case FROM_BATCH: CALL(FROM_BATCH, x); break;
    default: CALL(FROM_FROZEN, x);
    }
#undef CALL
}

/* The same by column; see sum_column. */
static void FN(gradient_sums_of_columns)(int sign, int64_t start, int64_t count, int64_t stride, int64_t length,
                                         int64_t size, const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                                         const double *a, int64_t width, REAL slope, double *sum, double *dot)
{
    REAL dz[CHANNEL_PIECE];
    for (int64_t i = 0; i < length; i += CHANNEL_PIECE) {
        const int64_t columns = length - i < CHANNEL_PIECE ? length - i : CHANNEL_PIECE;
        for (int64_t j = 0; j < columns; j++) sum[i + j] = dot[i + j] = 0;
        for (int64_t run = 0; run < count; run++) {
            const int64_t at = start + run * stride + i, n = size - at < columns ? size - at : columns;
            const REAL *from = x + at;
            if (n <= 0) break;
            FN(gradient_of_run)(1, sign, from, y ? y + at : 0, dy + at, v + i, a + i, width, slope, dz, n);
            INDEPENDENT
            for (int64_t j = 0; j < n; j++) {
                const double u = dz[j];
                sum[i + j] += u;
                dot[i + j] += u * from[j];
            }
        }
    }
}

/* dx = dz * by_dz + constant + ((x - high) - low) * by_x, or dz * by_dz alone with frozen statistics */
CHANNEL_INLINE void FN(backward_run)(const int column, const int sign, const int frozen, const REAL *x, const REAL *y,
                                     const REAL *dy, const REAL *v, const double *a, int64_t width, REAL slope,
                                     REAL *dx, int64_t n)
{
    const REAL *high = v + HIGH * width, *low = v + LOW * width, *factor = v + FACTOR * width;
    const REAL *scale = v + SCALE * width, *shift = v + SHIFT * width, *by_dz = v + BY_DZ * width;
    const REAL *by_x = v + BY_X * width, *constant = v + CONSTANT * width;
    const double *b = a + width;
    FIRST(REAL, high); FIRST(REAL, low); FIRST(REAL, factor); FIRST(REAL, scale); FIRST(REAL, shift);
    FIRST(REAL, by_dz); FIRST(REAL, by_x); FIRST(REAL, constant);
    FIRST(double, a); FIRST(double, b);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        const REAL centred = (x[j] - VALUE(high)) - VALUE(low);
        REAL dz = dy[j];
        if (sign == FROM_Y) dz *= y[j] > 0 ? 1 : slope;
        if (sign == FROM_BATCH) dz *= centred * VALUE(factor) * VALUE(scale) + VALUE(shift) > 0 ? 1 : slope;
        if (sign == FROM_FROZEN) dz *= (REAL)(x[j] * VALUE(a) + VALUE(b)) > 0 ? 1 : slope;
        if (frozen) dx[j] = dz * VALUE(by_dz);
        else dx[j] = (dz * VALUE(by_dz) + VALUE(constant)) + centred * VALUE(by_x);
    }
}

/* dx of runs as in the maps of channel_impl.h; what lies `ahead` is fetched. */
CHANNEL_INLINE void FN(backward_runs)(const int column, const int sign, const int frozen, int64_t at, int64_t tiles,
                                      int64_t length, int64_t ahead, const REAL *x, const REAL *y, const REAL *dy,
                                      const REAL *v, const double *a, int64_t width, REAL slope, REAL *dx)
{
    for (int64_t t = 0; t < tiles; t++)
        for (int64_t i = 0, n; i < length; i += n, at += n) {
            const int64_t c = column ? i : t;
            n = length - i < CHANNEL_PIECE ? length - i : CHANNEL_PIECE;
            if (ahead) {
                CHANNEL_FETCH(x + at + ahead, n);
                CHANNEL_FETCH(dy + at + ahead, n);
                if (sign == FROM_Y) CHANNEL_FETCH(y + at + ahead, n);
            }
            FN(backward_run)(column, sign, frozen, x + at, y + at, dy + at, v + c, a + c, width, slope, dx + at, n);
        }
}

static void FN(backward)(int column, int sign, int frozen, int64_t at, int64_t tiles, int64_t length, int64_t ahead,
                         const REAL *x, const REAL *y, const REAL *dy, const REAL *v, const double *a, int64_t width,
                         REAL slope, REAL *dx)
{
#define CALL(column, sign, frozen, y) \
    FN(backward_runs)(column, sign, frozen, at, tiles, length, ahead, x, y, dy, v, a, width, slope, dx)
    switch (column * 8 + sign * 2 + frozen) {
    case NO_ACTIVATION * 2: CALL(0, NO_ACTIVATION, 0, x); break;
    case NO_ACTIVATION * 2 + 1: CALL(0, NO_ACTIVATION, 1, x); break;
    case FROM_Y * 2: CALL(0, FROM_Y, 0, y); break;
    case FROM_Y * 2 + 1: CALL(0, FROM_Y, 1, y); break;
    case FROM_BATCH * 2: CALL(0, FROM_BATCH, 0, x); break;
    case FROM_FROZEN * 2 + 1: CALL(0, FROM_FROZEN, 1, x); break;
    case 8 + NO_ACTIVATION * 2: CALL(1, NO_ACTIVATION, 0, x); break;
    case 8 + NO_ACTIVATION * 2 + 1: CALL(1, NO_ACTIVATION, 1, x); break;
    case 8 + FROM_Y * 2: CALL(1, FROM_Y, 0, y); break;
    case 8 + FROM_Y * 2 + 1: CALL(1, FROM_Y, 1, y); break;
    case 8 + FROM_BATCH * 2: CALL(1, FROM_BATCH, 0, x); break;
    default: CALL(1, FROM_FROZEN, 1, x);
    }
#undef CALL
}
