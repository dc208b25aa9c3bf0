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

/* The elements [at, at + n) of the tensors; residual may be NULL; slope 0 is relu, and 1 no activation. */
static void FN(forward)(int column, int64_t at, int64_t n, const REAL *x, const REAL *residual, const REAL *v,
                        int64_t width, REAL slope, REAL *y)
{
    const REAL *r = residual ? residual + at : 0;
#define CALL(c, a, u) FN(forward_run)(c, a, u, x + at, r, v, width, slope, y + at, n)
    CHOOSE(column, residual != 0, slope == 0, CALL)
#undef CALL
}

static void FN(affine_act)(int column, int64_t at, int64_t n, const REAL *x, const REAL *residual, const double *a,
                           const double *b, REAL slope, REAL *y)
{
    const REAL *r = residual ? residual + at : 0;
#define CALL(c, d, u) FN(affine_act_run)(c, d, u, x + at, r, a, b, slope, y + at, n)
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

static void FN(gradient)(int column, int sign, const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
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

/* sum = sum dz and dot = sum dz * x, by row, of `count` runs of `length` elements, the first at `start`; y may be NULL. */
static void FN(gradient_sums_of_rows)(int sign, int64_t start, int64_t count, int64_t stride, int64_t length,
                                      const REAL *x, const REAL *y, const REAL *dy, const REAL *v, const double *a,
                                      int64_t width, REAL slope, double *sum, double *dot)
{
    lanes_part first[PARTS] = {0}, second[PARTS] = {0};
    REAL dz[2 * PIECE];
    for (int64_t run = 0; run < count; run++)
        for (int64_t i = 0, n; i < length; i += n) {
            const int64_t at = start + run * stride + i;
            n = length - i < 2 * PIECE ? length - i : PIECE;
            if (sign != NO_ACTIVATION)
                FN(gradient)(0, sign, x + at, y ? y + at : 0, dy + at, v, a, width, slope, dz, n);
            FN(add_run)(SUM_AND_DOT, sign == NO_ACTIVATION ? dy + at : dz, x + at, n, 0, first, second);
        }
    *sum = lanes_total(first);
    *dot = lanes_total(second);
}

/* The same by column; see sum_column. */
static void FN(gradient_sums_of_columns)(int sign, int64_t start, int64_t count, int64_t stride, int64_t length,
                                         int64_t size, const REAL *x, const REAL *y, const REAL *dy, const REAL *v,
                                         const double *a, int64_t width, REAL slope, double *sum, double *dot)
{
    REAL dz[PIECE];
    for (int64_t i = 0; i < length; i += PIECE) {
        const int64_t columns = length - i < PIECE ? length - i : PIECE;
        for (int64_t j = 0; j < columns; j++) sum[i + j] = dot[i + j] = 0;
        for (int64_t run = 0; run < count; run++) {
            const int64_t at = start + run * stride + i, n = size - at < columns ? size - at : columns;
            const REAL *from = x + at;
            if (n <= 0) break;
            FN(gradient)(1, sign, from, y ? y + at : 0, dy + at, v + i, a + i, width, slope, dz, n);
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
CHANNEL_INLINE void FN(backward_run)(const int column, const int frozen, const REAL *x, const REAL *dz, const REAL *v,
                                     int64_t width, REAL *dx, int64_t n)
{
    const REAL *high = v + HIGH * width, *low = v + LOW * width, *by_dz = v + BY_DZ * width;
    const REAL *by_x = v + BY_X * width, *constant = v + CONSTANT * width;
    FIRST(REAL, high); FIRST(REAL, low); FIRST(REAL, by_dz); FIRST(REAL, by_x); FIRST(REAL, constant);
    INDEPENDENT
    for (int64_t j = 0; j < n; j++) {
        if (frozen) dx[j] = dz[j] * VALUE(by_dz);
        else dx[j] = (dz[j] * VALUE(by_dz) + VALUE(constant)) + ((x[j] - VALUE(high)) - VALUE(low)) * VALUE(by_x);
    }
}

/* dz and dx of the elements [at, at + n), each unless it is NULL. */
static void FN(backward)(int column, int sign, int frozen, int64_t at, int64_t n, const REAL *x, const REAL *y,
                         const REAL *dy, const REAL *v, const double *a, int64_t width, REAL slope, REAL *dx, REAL *dz)
{
    REAL piece[PIECE];
    for (int64_t i = at; i < at + n; i += PIECE) {
        const int64_t m = at + n - i < PIECE ? at + n - i : PIECE, c = column ? i - at : 0;
        const REAL *from = dy + i;
        if (dz || sign != NO_ACTIVATION) {
            REAL *to = dz ? dz + i : piece;
            FN(gradient)(column, sign, x + i, y ? y + i : 0, dy + i, v + c, a + c, width, slope, to, m);
            from = to;
        }
        if (!dx) continue;
        if (column && frozen) FN(backward_run)(1, 1, x + i, from, v + c, width, dx + i, m);
        else if (column) FN(backward_run)(1, 0, x + i, from, v + c, width, dx + i, m);
        else if (frozen) FN(backward_run)(0, 1, x + i, from, v + c, width, dx + i, m);
        else FN(backward_run)(0, 0, x + i, from, v + c, width, dx + i, m);
    }
}
