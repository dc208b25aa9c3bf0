/* The part of pool.h that is compiled for float and for double. */

/* Copy a row; `behind`: elements from its end on that may be touched, in both. */
static inline __attribute__((always_inline)) void FN(copy_row)(
    REAL *to, const REAL *from, ptrdiff_t n, ptrdiff_t behind)
{
    if (whole_chunks(n) - n <= behind)
        for (ptrdiff_t i = 0; i < n; i += POOL_CHUNK) memcpy(to + i, from + i, POOL_CHUNK * sizeof(REAL));
    else
        memcpy(to, from, (size_t)n * sizeof(REAL));
}

static inline __attribute__((always_inline)) void FN(fill_row)(REAL *to, REAL value, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += POOL_CHUNK)
        EACH_LANE(l) to[i + l] = value;
}

static inline __attribute__((always_inline)) void FN(fill_frame)(
    const pooling *p, const pool_block *b, const REAL *x, const REAL outside, REAL *to)
{
    const ptrdiff_t top = b->i * p->stride_h - p->pad_h, left = b->j * p->stride_w - p->pad_w;
    const ptrdiff_t pitch = b->step * p->stride_w;
    const ptrdiff_t w0 = pool_min(pool_max(-left, 0), pitch), w1 = pool_max(pool_min(p->width - left, pitch), w0);
    const ptrdiff_t image = p->height * p->width;
    for (ptrdiff_t s = 0; s < p->stride_h; s++)
        for (ptrdiff_t plane = 0; plane < b->planes; plane++)
            for (ptrdiff_t t = 0; t < b->slots; t++, to += pitch) {
                const ptrdiff_t h = top + t * p->stride_h + s;
                if (w0 == w1 || h < 0 || h >= p->height) {
                    FN(fill_row)(to, outside, pitch);
                    continue;
                }
                const ptrdiff_t from = plane * image + h * p->width + left;
                FN(fill_row)(to, outside, w0);
                FN(copy_row)(to + w0, x + from + w0, w1 - w0, b->planes * image - from - w1);
                FN(fill_row)(to + w1, outside, pitch - w1);
            }
}

/* Where the rows of a window begin that lie k below its first. */
static inline ptrdiff_t FN(row_below)(const pooling *p, const pool_block *b, ptrdiff_t k)
{
    return (k % p->stride_h * b->planes * b->slots + k / p->stride_h) * b->step;
}

/* First step, for a kernel of a known size: best[q] = the largest of from[q * stride] and those behind it.  Values that
   are not above the lowest, NaN among them, become that. */
static inline __attribute__((always_inline)) void FN(max_across)(
    const REAL *restrict from, const ptrdiff_t stride, const int kernel, ptrdiff_t n, const int placed,
    REAL *restrict best, PLACE *restrict at)
{
    for (ptrdiff_t q = 0; q < n; q++) {
        REAL value = from[q * stride] > -FLT_MAX ? from[q * stride] : -FLT_MAX;
        PLACE place = 0;
#pragma GCC unroll 3
        for (int k = 1; k < kernel; k++) {
            const REAL next = from[q * stride + k];
            const PLACE larger = -(PLACE)(next > value);
            place = (k & larger) | (place & ~larger);
            value = next > value ? next : value;
        }
        best[q] = value;
        if (placed) at[q] = place;
    }
}

/* One more row or column of candidates, each `offset` behind its place. */
static inline __attribute__((always_inline)) void FN(max_with)(
    const REAL *restrict from, const ptrdiff_t stride, const PLACE *restrict from_at, PLACE offset, ptrdiff_t n,
    const int placed, REAL *restrict best, PLACE *restrict at)
{
    for (ptrdiff_t q = 0; q < n; q++) {
        const REAL next = from[q * stride], value = best[q];
        if (placed) {
            const PLACE larger = -(PLACE)(next > value), there = (from_at ? from_at[q] : 0) + offset;
            at[q] = (there & larger) | (at[q] & ~larger);
        }
        best[q] = next > value ? next : value;
    }
}

/* First step: best[q] = the largest of the kernel's width from from[q * stride] on, for q < all, and whole chunks if the
   stride is small. */
static inline __attribute__((always_inline)) void FN(max_of_columns)(
    const pooling *p, const REAL *from, ptrdiff_t all, const int placed, REAL *best, PLACE *at)
{
    const ptrdiff_t sw = p->stride_w, kw = p->kernel_w, n = sw <= 2 ? whole_chunks(all) : all;
    if (kw == 2 && sw == 2) FN(max_across)(from, 2, 2, n, placed, best, at);
    else if (kw == 3 && sw == 2) FN(max_across)(from, 2, 3, n, placed, best, at);
    else if (kw == 3 && sw == 1) FN(max_across)(from, 1, 3, n, placed, best, at);
    else {
        FN(max_across)(from, sw, 1, n, placed, best, at);
        for (ptrdiff_t k = 1; k < kw; k++) {
            if (sw == 1) FN(max_with)(from + k, 1, NULL, (PLACE)k, all, placed, best, at);
            else FN(max_with)(from + k, sw, NULL, (PLACE)k, all, placed, best, at);
        }
    }
}

/* Second step, for two rows or three: a is their first, b the second, c the third. */
static inline __attribute__((always_inline)) void FN(max_down)(
    const REAL *restrict a, const REAL *restrict b, const REAL *restrict c, const PLACE *restrict at_a,
    const PLACE *restrict at_b, const PLACE *restrict at_c, PLACE width, ptrdiff_t n, const int three, const int placed,
    REAL *restrict best, PLACE *restrict at)
{
    for (ptrdiff_t q = 0; q < n; q++) {
        REAL value = a[q];
        PLACE place = placed ? at_a[q] : 0, larger = -(PLACE)(b[q] > value);
        if (placed) place = ((at_b[q] + width) & larger) | (place & ~larger);
        value = b[q] > value ? b[q] : value;
        if (three) {
            larger = -(PLACE)(c[q] > value);
            if (placed) place = ((at_c[q] + 2 * width) & larger) | (place & ~larger);
            value = c[q] > value ? c[q] : value;
        }
        best[q] = value;
        if (placed) at[q] = place;
    }
}

/* Write the places of a row of maxima, counted from `base`, that of the row's first window, and `columns`. */
static inline __attribute__((always_inline)) void FN(copy_places)(
    const REAL *best, const PLACE *at, int32_t base, const int32_t *columns, ptrdiff_t n, ptrdiff_t behind,
    int32_t *index)
{
    for (ptrdiff_t i = 0; i < n; i += POOL_CHUNK) {
        int32_t chunk[POOL_CHUNK];
        EACH_LANE(l) {
            const int32_t none = -(int32_t)(best[i + l] <= -FLT_MAX);
            chunk[l] = ((int32_t)at[i + l] + base + columns[i + l]) | none;
        }
        if (i + POOL_CHUNK - n <= behind) memcpy(index + i, chunk, sizeof chunk);
        else memcpy(index + i, chunk, (size_t)(n - i) * sizeof(int32_t));
    }
}

static inline __attribute__((always_inline)) void FN(max_frame)(
    const pooling *p, const pool_block *b, const REAL *x, const int placed, REAL *y, int32_t *index)
{
    enum { ROOM = POOL_FRAME + POOL_SLACK };
    REAL frame[ROOM], across[ROOM], best[ROOM];
    PLACE across_at[ROOM], at[ROOM];
    int32_t columns[ROOM];
    const ptrdiff_t sh = p->stride_h, sw = p->stride_w, kh = p->kernel_h;
    const ptrdiff_t all = sh * b->planes * b->slots * b->step - (b->step - b->columns);
    const ptrdiff_t n_down = whole_chunks((b->planes * b->slots - p->reach_h + 1) * b->step);
    FN(fill_frame)(p, b, x, -FLT_MAX, frame);
    FN(max_of_columns)(p, frame, all, placed, across, across_at);
    if (kh == 2 || kh == 3) {
        const ptrdiff_t b1 = FN(row_below)(p, b, 1), b2 = FN(row_below)(p, b, kh - 1);
        if (kh == 3)
            FN(max_down)(across, across + b1, across + b2, across_at, across_at + b1, across_at + b2, (PLACE)p->width,
                         n_down, 1, placed, best, at);
        else
            FN(max_down)(across, across + b1, NULL, across_at, across_at + b1, NULL, (PLACE)p->width, n_down, 0, placed,
                         best, at);
    } else {
        memcpy(best, across, (size_t)n_down * sizeof(REAL));
        if (placed) memcpy(at, across_at, (size_t)n_down * sizeof(PLACE));
        for (ptrdiff_t k = 1; k < kh; k++) {
            const ptrdiff_t from = FN(row_below)(p, b, k);
            FN(max_with)(across + from, 1, across_at + from, (PLACE)(k * p->width), n_down, placed, best, at);
        }
    }
    for (ptrdiff_t c = 0; placed && c < whole_chunks(b->columns); c++) columns[c] = (int32_t)(c * sw);
    for (ptrdiff_t plane = 0; plane < b->planes; plane++)
        for (ptrdiff_t r = 0; r < b->rows; r++) {
            const ptrdiff_t behind = behind_row(p, b, plane, r), from = (plane * b->slots + r) * b->step;
            const ptrdiff_t to = (plane * p->rows + b->i + r) * p->columns + b->j;
            FN(copy_row)(y + to, best + from, b->columns, behind);
            if (placed) {
                const ptrdiff_t base = ((b->i + r) * sh - p->pad_h) * p->width + b->j * sw - p->pad_w;
                FN(copy_places)(best + from, at + from, (int32_t)base, columns, b->columns, behind, index + to);
            }
        }
}

/* best[q] = the largest of `rows` numbers that lie `pitch` apart, for n >= POOL_CHUNK columns. */
static inline __attribute__((always_inline)) void FN(max_of_rows)(
    const REAL *from, ptrdiff_t pitch, ptrdiff_t rows, ptrdiff_t n, REAL *best)
{
    for (ptrdiff_t i = 0; i < n; i += POOL_CHUNK) {
        const ptrdiff_t q = pool_min(i, n - POOL_CHUNK);    /* the last chunk overlaps the one before */
        REAL value[POOL_CHUNK];
        EACH_LANE(l) value[l] = -FLT_MAX;
        for (ptrdiff_t k = 0; k < rows; k++)
            EACH_LANE(l) {
                const REAL next = from[k * pitch + q + l];
                value[l] = next > value[l] ? next : value[l];
            }
        memcpy(best + q, value, sizeof value);
    }
}

/* The same as max_frame where nobody asks for places, rows are long and windows a stride apart: down first, from the
   image as it lies, so that what takes the stride apart runs once for each row of results.  Of equal maxima (0 and -0)
   any may win then. */
static inline __attribute__((always_inline)) void FN(max_long_rows)(
    const pooling *p, const pool_block *b, const REAL *x, ptrdiff_t w0, ptrdiff_t w1, REAL *y)
{
    enum { ROOM = POOL_FRAME + POOL_SLACK };
    REAL down[ROOM], best[ROOM];
    const ptrdiff_t sw = p->stride_w, left = b->j * sw - p->pad_w;
    for (ptrdiff_t q = 0; q < b->step * sw + POOL_SLACK; q++) down[q] = -FLT_MAX;
    for (ptrdiff_t plane = 0; plane < b->planes; plane++, x += p->height * p->width)
        for (ptrdiff_t r = 0; r < b->rows; r++) {
            const ptrdiff_t top = (b->i + r) * p->stride_h - p->pad_h;
            const ptrdiff_t h0 = pool_max(top, 0), h1 = pool_max(pool_min(top + p->kernel_h, p->height), h0);
            const REAL *from = x + h0 * p->width + left + w0;
            if (h1 - h0 == 3) FN(max_of_rows)(from, p->width, 3, w1 - w0, down + w0);
            else FN(max_of_rows)(from, p->width, h1 - h0, w1 - w0, down + w0);
            FN(max_of_columns)(p, down, b->columns, 0, best, NULL);
            FN(copy_row)(y + (plane * p->rows + b->i + r) * p->columns + b->j, best, b->columns,
                         behind_row(p, b, plane, r));
        }
}

/* The largest of a run and where it is, when it is above *best. */
static inline void FN(max_run)(const REAL *x, ptrdiff_t n, ptrdiff_t first, REAL *best, ptrdiff_t *at)
{
    if (n < POOL_CHUNK) {
        for (ptrdiff_t i = 0; i < n; i++)
            if (x[i] > *best) *best = x[i], *at = first + i;
        return;
    }
    REAL value[POOL_CHUNK];
    PLACE place[POOL_CHUNK];
    EACH_LANE(l) value[l] = x[l] > -FLT_MAX ? x[l] : -FLT_MAX, place[l] = l;
    for (ptrdiff_t i = POOL_CHUNK; i < n; i += POOL_CHUNK) {
        const ptrdiff_t from = pool_min(i, n - POOL_CHUNK);  /* the last chunk overlaps the one before */
        EACH_LANE(l) {
            const REAL next = x[from + l];
            const PLACE larger = -(PLACE)(next > value[l]);
            place[l] = (((PLACE)from + l) & larger) | (place[l] & ~larger);
            value[l] = next > value[l] ? next : value[l];
        }
    }
    /* halves, until one value is left */
    REAL half[8];
    for (int l = 0; l < 8; l++) half[l] = value[l + 8] > value[l] ? value[l + 8] : value[l];
    for (int l = 0; l < 4; l++) half[l] = half[l + 4] > half[l] ? half[l + 4] : half[l];
    for (int l = 0; l < 2; l++) half[l] = half[l + 2] > half[l] ? half[l + 2] : half[l];
    const REAL largest = half[1] > half[0] ? half[1] : half[0];
    if (!(largest > *best)) return;
    PLACE first_of[8];
    EACH_LANE(l) place[l] |= -(PLACE)(value[l] != largest) & (PLACE)INT32_MAX;
    for (int l = 0; l < 8; l++) first_of[l] = place[l + 8] < place[l] ? place[l + 8] : place[l];
    for (int l = 0; l < 4; l++) first_of[l] = first_of[l + 4] < first_of[l] ? first_of[l + 4] : first_of[l];
    for (int l = 0; l < 2; l++) first_of[l] = first_of[l + 2] < first_of[l] ? first_of[l + 2] : first_of[l];
    *best = largest, *at = first + (first_of[1] < first_of[0] ? first_of[1] : first_of[0]);
}

/* The maximum of the window of output (i, j), from rows of memory. */
static inline void FN(max_window)(
    const pooling *p, const REAL *x, ptrdiff_t i, ptrdiff_t j, REAL *y, int32_t *index)
{
    const pool_window w = window_at(p, i, j);
    REAL best = -FLT_MAX;
    ptrdiff_t at = -1;
    if (p->as_runs && w.h0 < w.h1)
        FN(max_run)(x + w.h0 * p->width, (w.h1 - w.h0) * p->width, w.h0 * p->width, &best, &at);
    else if (w.w0 < w.w1)
        for (ptrdiff_t h = w.h0; h < w.h1; h++)
            FN(max_run)(x + h * p->width + w.w0, w.w1 - w.w0, h * p->width + w.w0, &best, &at);
    y[i * p->columns + j] = best;
    if (index) index[i * p->columns + j] = (int32_t)at;
}

/* Block `number` of the maxima; index may be NULL. */
static void FN(max_pool_block)(const pooling *p, ptrdiff_t number, const REAL *x, REAL *y, int32_t *index)
{
    const pool_block b = block_at(p, number);
    x += b.plane * p->height * p->width;
    y += b.plane * p->rows * p->columns;
    if (index) index += b.plane * p->rows * p->columns;
    const ptrdiff_t left = b.j * p->stride_w - p->pad_w, pitch = b.step * p->stride_w;
    const ptrdiff_t w0 = pool_max(-left, 0), w1 = pool_min(p->width - left, pitch);     /* in the image */
    if (!p->block_rows) FN(max_window)(p, x, b.i, b.j, y, index);
    else if (index) FN(max_frame)(p, &b, x, 1, y, index);
    else if (p->stride_w > 1 && w1 - w0 >= 2 * POOL_CHUNK) FN(max_long_rows)(p, &b, x, w0, w1, y);
    else FN(max_frame)(p, &b, x, 0, y, NULL);
}

/* First step of the average, for a kernel of a known size. */
static inline __attribute__((always_inline)) void FN(sum_across)(
    const REAL *restrict from, const ptrdiff_t stride, const int kernel, ptrdiff_t n, double *restrict sum)
{
    for (ptrdiff_t q = 0; q < n; q++) {
        double value = from[q * stride];
#pragma GCC unroll 3
        for (int k = 1; k < kernel; k++) value += from[q * stride + k];
        sum[q] = value;
    }
}

static inline __attribute__((always_inline)) void FN(add_across)(
    const REAL *restrict from, const ptrdiff_t stride, ptrdiff_t n, double *restrict sum)
{
    for (ptrdiff_t q = 0; q < n; q++) sum[q] += from[q * stride];
}

/* Second step, for two rows or three. */
static inline __attribute__((always_inline)) void FN(sum_down)(
    const double *restrict a, const double *restrict b, const double *restrict c, ptrdiff_t n, const int three,
    double *restrict sum)
{
    for (ptrdiff_t q = 0; q < n; q++) sum[q] = three ? (a[q] + b[q]) + c[q] : a[q] + b[q];
}

/* Divide a row of sums by the areas of their windows, side * sides. */
static inline __attribute__((always_inline)) void FN(divide_row)(
    const double *sum, double side, const double *sides, ptrdiff_t n, ptrdiff_t behind, REAL *y)
{
    for (ptrdiff_t i = 0; i < n; i += POOL_CHUNK) {
        REAL chunk[POOL_CHUNK];
        EACH_LANE(l) chunk[l] = (REAL)(sum[i + l] / (side * sides[i + l]));
        if (i + POOL_CHUNK - n <= behind) memcpy(y + i, chunk, sizeof chunk);
        else memcpy(y + i, chunk, (size_t)(n - i) * sizeof(REAL));
    }
}

static void FN(ave_frame)(const pooling *p, const pool_block *b, const REAL *x, REAL *y)
{
    enum { ROOM = POOL_FRAME + POOL_SLACK };
    REAL frame[ROOM];
    double across[ROOM], sum[ROOM], sides[ROOM];
    const ptrdiff_t sh = p->stride_h, sw = p->stride_w, kw = p->kernel_w, kh = p->kernel_h;
    const ptrdiff_t all = sh * b->planes * b->slots * b->step - (b->step - b->columns);
    const ptrdiff_t n = sw <= 2 ? whole_chunks(all) : all;
    const ptrdiff_t n_down = whole_chunks((b->planes * b->slots - p->reach_h + 1) * b->step);
    FN(fill_frame)(p, b, x, 0, frame);
    if (kw == 2 && sw == 2) FN(sum_across)(frame, 2, 2, n, across);
    else if (kw == 3 && sw == 2) FN(sum_across)(frame, 2, 3, n, across);
    else if (kw == 3 && sw == 1) FN(sum_across)(frame, 1, 3, n, across);
    else {
        FN(sum_across)(frame, sw, 1, n, across);
        for (ptrdiff_t k = 1; k < kw; k++) {
            if (sw == 1) FN(add_across)(frame + k, 1, all, across);
            else FN(add_across)(frame + k, sw, all, across);
        }
    }
    if (kh == 2) FN(sum_down)(across, across + FN(row_below)(p, b, 1), NULL, n_down, 0, sum);
    else if (kh == 3)
        FN(sum_down)(across, across + FN(row_below)(p, b, 1), across + FN(row_below)(p, b, 2), n_down, 1, sum);
    else {
        memcpy(sum, across, (size_t)n_down * sizeof(double));
        for (ptrdiff_t k = 1; k < kh; k++) {
            const double *restrict from = across + FN(row_below)(p, b, k);
            for (ptrdiff_t q = 0; q < n_down; q++) sum[q] += from[q];
        }
    }
    for (ptrdiff_t c = 0; c < whole_chunks(b->columns); c++)
        sides[c] = (double)pool_min(kw, p->width + 2 * p->pad_w - (b->j + c) * sw);
    for (ptrdiff_t plane = 0; plane < b->planes; plane++)
        for (ptrdiff_t r = 0; r < b->rows; r++) {
            const double side = (double)pool_min(kh, p->height + 2 * p->pad_h - (b->i + r) * sh);
            FN(divide_row)(sum + (plane * b->slots + r) * b->step, side, sides, b->columns, behind_row(p, b, plane, r),
                           y + (plane * p->rows + b->i + r) * p->columns + b->j);
        }
}

static inline double FN(run_sum)(const REAL *x, ptrdiff_t n)
{
    double lane[POOL_CHUNK] = {0};
    const ptrdiff_t whole = n - n % POOL_CHUNK;
    for (ptrdiff_t i = 0; i < whole; i += POOL_CHUNK)
        EACH_LANE(l) lane[l] += x[i + l];
    for (ptrdiff_t i = whole; i < n; i++) lane[i - whole] += x[i];
    return lanes_total(lane);
}

static inline void FN(ave_window)(const pooling *p, const REAL *x, ptrdiff_t i, ptrdiff_t j, REAL *y)
{
    const pool_window w = window_at(p, i, j);
    double sum = 0;
    if (p->as_runs && w.h0 < w.h1)
        sum = FN(run_sum)(x + w.h0 * p->width, (w.h1 - w.h0) * p->width);
    else if (w.w0 < w.w1)
        for (ptrdiff_t h = w.h0; h < w.h1; h++) sum += FN(run_sum)(x + h * p->width + w.w0, w.w1 - w.w0);
    y[i * p->columns + j] = (REAL)(sum / w.area);
}

/* Block `number` of the averages. */
static void FN(ave_pool_block)(const pooling *p, ptrdiff_t number, const REAL *x, REAL *y)
{
    const pool_block b = block_at(p, number);
    x += b.plane * p->height * p->width;
    y += b.plane * p->rows * p->columns;
    if (p->block_rows) FN(ave_frame)(p, &b, x, y);
    else FN(ave_window)(p, x, b.i, b.j, y);
}

/* to[q * step] = from[q], or += from[q]. */
static inline __attribute__((always_inline)) void FN(add_phase)(
    const REAL *restrict from, ptrdiff_t n, int first, const ptrdiff_t step, REAL *restrict to)
{
    if (first)
        for (ptrdiff_t q = 0; q < n; q++) to[q * step] = from[q];
    else
        for (ptrdiff_t q = 0; q < n; q++) to[q * step] += from[q];
}

static inline void FN(add_two_phases)(
    const REAL *restrict even, const REAL *restrict odd, ptrdiff_t n, int first, REAL *restrict to)
{
    if (first)
        for (ptrdiff_t q = 0; q < n; q++) to[2 * q] = even[q], to[2 * q + 1] = odd[q];
    else
        for (ptrdiff_t q = 0; q < n; q++) to[2 * q] += even[q], to[2 * q + 1] += odd[q];
}

/* The shares dy / area of the windows that reach into the block, 0 where there is none. */
static inline void FN(fill_shares)(const pooling *p, const pool_block *b, const REAL *dy, REAL *share)
{
    double sides[POOL_FRAME + POOL_SLACK];
    const ptrdiff_t i0 = b->i - p->reach_h + 1, j0 = b->j - p->reach_w + 1, windows = p->rows * p->columns;
    const ptrdiff_t b0 = pool_min(pool_max(-j0, 0), b->step), b1 = pool_max(pool_min(p->columns - j0, b->step), b0);
    for (ptrdiff_t c = b0; c < b0 + whole_chunks(b1 - b0); c++)
        sides[c] = (double)pool_min(p->kernel_w, p->width + 2 * p->pad_w - (j0 + c) * p->stride_w);
    for (ptrdiff_t plane = 0; plane < b->planes; plane++)
        for (ptrdiff_t t = 0; t < b->slots; t++, share += b->step) {
            const ptrdiff_t i = i0 + t;
            if (i < 0 || i >= p->rows || b0 == b1) {
                FN(fill_row)(share, 0, b->step);
                continue;
            }
            const double side = (double)pool_min(p->kernel_h, p->height + 2 * p->pad_h - i * p->stride_h);
            const ptrdiff_t from = plane * windows + i * p->columns + j0;
            FN(fill_row)(share, 0, b0);
            for (ptrdiff_t c = b0; c < b1; c += POOL_CHUNK) {
                REAL chunk[POOL_CHUNK] = {0};
                if (b->planes * windows - from - c >= POOL_CHUNK) memcpy(chunk, dy + from + c, sizeof chunk);
                else memcpy(chunk, dy + from + c, (size_t)(b1 - c) * sizeof(REAL));
                EACH_LANE(l) share[c + l] = (REAL)(chunk[l] / (side * sides[c + l]));
            }
            FN(fill_row)(share + b1, 0, b->step - b1);
        }
}

/* The gradient of the average, for a block of strides of the padded image.

   A place gets from the windows that cover it; with u its row in the padded image these are the windows u / stride,
   u / stride - 1, ...  So rows of one phase, u % stride, are sums of neighbouring rows of shares, columns likewise,
   again in two steps over flat arrays. */
static void FN(ave_back_frame)(const pooling *p, const pool_block *b, const REAL *dy, REAL *dx)
{
    enum { ROOM = 2 * (POOL_FRAME + POOL_SLACK) };
    REAL share[POOL_FRAME + POOL_SLACK], across[ROOM], sum[ROOM];
    const ptrdiff_t sh = p->stride_h, sw = p->stride_w, total = b->planes * b->slots * b->step;
    FN(fill_shares)(p, b, dy, share);
    for (ptrdiff_t r = 0; r < sw; r++) {
        REAL *restrict to = across + r * total;
        if (r < p->kernel_w) memcpy(to, share, (size_t)total * sizeof(REAL));
        else memset(to, 0, (size_t)total * sizeof(REAL));
        for (ptrdiff_t m = 1; r + sw * m < p->kernel_w; m++)
            for (ptrdiff_t q = m; q < total; q++) to[q] += share[q - m];
    }
    const ptrdiff_t first = (p->reach_h - 1) * b->step + p->reach_w - 1, n = total - first;
    const ptrdiff_t left = b->j * sw - p->pad_w;
    const ptrdiff_t w0 = pool_max(left, 0), w1 = pool_min(left + b->columns * sw, p->width);
    for (ptrdiff_t s = 0; s < sh; s++) {
        /* the phases of columns interleaved, as in the image */
        if (s >= p->kernel_h) memset(sum, 0, (size_t)(n * sw) * sizeof(REAL));
        for (ptrdiff_t m = 0; s + sh * m < p->kernel_h; m++) {
            const REAL *from = across + first - m * b->step;
            if (sw == 1) FN(add_phase)(from, n, m == 0, 1, sum);
            else if (sw == 2) FN(add_two_phases)(from, from + total, n, m == 0, sum);
            else
                for (ptrdiff_t r = 0; r < sw; r++) FN(add_phase)(from + r * total, n, m == 0, sw, sum + r);
        }
        for (ptrdiff_t plane = 0; plane < b->planes; plane++)
            for (ptrdiff_t t = 0; t < b->rows; t++) {
                const ptrdiff_t h = (b->i + t) * sh + s - p->pad_h;
                if (h >= 0 && h < p->height)
                    memcpy(dx + (plane * p->height + h) * p->width + w0,
                           sum + (plane * b->slots + t) * b->step * sw + w0 - left, (size_t)(w1 - w0) * sizeof(REAL));
            }
    }
}

/* The same for a whole plane, window by window. */
static void FN(ave_back_plane)(const pooling *p, const REAL *dy, REAL *dx)
{
    const ptrdiff_t plane = p->height * p->width;
    const pool_window only = window_at(p, 0, 0);
    if (p->as_runs && p->rows == 1 && only.h0 == 0 && only.h1 == p->height) {
        const REAL share = (REAL)(dy[0] / only.area);
        for (ptrdiff_t q = 0; q < plane; q++) dx[q] = share;
        return;
    }
    memset(dx, 0, (size_t)plane * sizeof(REAL));
    for (ptrdiff_t i = 0; i < p->rows; i++)
        for (ptrdiff_t j = 0; j < p->columns; j++) {
            const pool_window w = window_at(p, i, j);
            const REAL share = (REAL)(dy[i * p->columns + j] / w.area);
            for (ptrdiff_t h = w.h0; h < w.h1; h++)
                for (ptrdiff_t q = h * p->width + w.w0; q < h * p->width + w.w1; q++) dx[q] += share;
        }
}

/* Block `number` of the gradient of the averages. */
static void FN(ave_back_block)(const pooling *p, ptrdiff_t number, const REAL *dy, REAL *dx)
{
    const pool_block b = block_at(p, number);
    dy += b.plane * p->rows * p->columns;
    dx += b.plane * p->height * p->width;
    if (p->block_rows) FN(ave_back_frame)(p, &b, dy, dx);
    else FN(ave_back_plane)(p, dy, dx);
}
