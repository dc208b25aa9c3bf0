/* The part of depthwise.h that is compiled for float and for double. */

/* Copy an image plane into the frame, reading nothing from `end` on.

   The last vector of a row writes zeros behind it, where zeros are or the next row will be written. */
GEMM_INLINE void FN(fill_frame)(const depthwise_plan *p, const REAL *from, const REAL *end, REAL *frame)
{
    const int64_t stride = p->stride, span = stride * FN(LANES);
    for (int64_t r = 0; r < p->image_rows; r++, from += p->image_width)
        for (int64_t phase = 0; phase < stride; phase++) {
            /* columns first + i of the frame with (first + i) % stride == phase */
            int64_t i = ((phase - p->first) % stride + stride) % stride;
            REAL *to = frame + (p->image_row[r] * stride + phase) * p->pitch + (p->first + i) / stride;
            for (; i < p->image_width; i += span, to += FN(LANES)) {
                const int64_t n = GEMM_MIN((p->image_width - i + stride - 1) / stride, FN(LANES));
                FN(vec) v = {0};
                if (stride > 2 || from + i + span > end) {
                    REAL part[FN(LANES)] = {0};
                    for (int64_t l = 0; l < n; l++) part[l] = from[i + l * stride];
                    v = FN(load)(part);
                } else if (stride == 2) v = FN(evens)(FN(load)(from + i), FN(load)(from + i + FN(LANES)));
                else v = FN(load)(from + i);
                if (n < FN(LANES)) v = FN(select)(FN(lane_numbers)() < (INTEGER)n, v, (FN(vec)){0});
                FN(store)(to, v);
            }
        }
}

/* Copy an image plane out of the frame. */
GEMM_INLINE void FN(read_frame)(const depthwise_plan *p, const REAL *frame, REAL *to)
{
    for (int64_t r = 0; r < p->image_rows; r++, to += p->image_width)
        for (int64_t phase = 0; phase < p->stride; phase++) {
            int64_t i = ((phase - p->first) % p->stride + p->stride) % p->stride;
            const REAL *from = frame + (p->image_row[r] * p->stride + phase) * p->pitch + (p->first + i) / p->stride;
            for (; i < p->image_width; i += p->stride) to[i] = *from++;
        }
}

/* One vector of `band` output rows: sums of all taps. */
GEMM_INLINE void FN(depthwise_sums)(const depthwise_plan *p, const int band, const REAL *frame, const REAL *w,
                                    int64_t w_step, int64_t row, int64_t col, FN(vec) *sum)
{
    const int64_t length = p->pitch * p->stride;
    const REAL *at[DEPTHWISE_BAND];
#pragma GCC unroll 4
    for (int b = 0; b < band; b++) at[b] = frame + p->row[row + b] * length + col, sum[b] = (FN(vec)){0};
    for (int64_t ko = 0; ko < p->n_outer; ko++)
        for (int64_t ki = 0; ki < p->n_inner; ki++, w += w_step) {
            const int64_t offset = p->outer[ko] * length + p->inner[ki];
#pragma GCC unroll 4
            for (int b = 0; b < band; b++) sum[b] += *w * FN(load)(at[b] + offset);
        }
}

/* y (N, groups * per_group, rows, width) = act(sum over taps * scale + bias + residual), added over the planes of a
   group if `gather`: then x has per_group planes for each of y's, and the taps go backwards. */
static void FN(depthwise_forward)(const REAL *w, const REAL *x, REAL *y, int64_t n_images, int64_t groups,
                                  int64_t per_group, const int64_t *sizes, const int64_t *tables, int gather,
                                  const REAL *scale, const REAL *bias, const REAL *residual, int active, REAL slope,
                                  REAL *scratch, int n_threads)
{
    const depthwise_plan plan = depthwise_read(sizes, tables), *p = &plan;
    const int64_t taps = p->n_outer * p->n_inner, plane = p->rows * p->width;
    const int64_t image = p->image_rows * p->image_width, size = depthwise_scratch(sizes, 1);
    const int64_t n_in = gather ? per_group : 1, n_out = gather ? 1 : per_group;
    if (plane == 0) return;
#pragma omp parallel num_threads(n_threads)
    {
        REAL *frame = scratch + GEMM_THREAD() * size;
        memset(frame, 0, size * sizeof(REAL));
#pragma omp for schedule(static)
        for (int64_t task = 0; task < n_images * groups; task++)
            for (int64_t i = 0; i < n_in; i++) {
                FN(fill_frame)(p, x + (task * n_in + i) * image, x + n_images * groups * n_in * image, frame);
                for (int64_t o = 0; o < n_out; o++) {
                    const int64_t channel = task % groups * per_group + (gather ? i : o);
                    const REAL *weights = w + channel * taps + (gather ? taps - 1 : 0);
                    REAL *to = y + (task * n_out + o) * plane;
                    const REAL *from = residual ? residual + (task * n_out + o) * plane : NULL;
                    for (int64_t row = 0; row < p->rows;) {
                        const int band = (int)GEMM_MIN(p->rows - row, DEPTHWISE_BAND);
                        for (int64_t col = (p->width - 1) / FN(LANES) * FN(LANES); col >= 0; col -= FN(LANES)) {
                            FN(vec) sum[DEPTHWISE_BAND];
                            const int64_t step = gather ? -1 : 1;
                            if (band == 4) FN(depthwise_sums)(p, 4, frame, weights, step, row, col, sum);
                            else if (band == 3) FN(depthwise_sums)(p, 3, frame, weights, step, row, col, sum);
                            else if (band == 2) FN(depthwise_sums)(p, 2, frame, weights, step, row, col, sum);
                            else FN(depthwise_sums)(p, 1, frame, weights, step, row, col, sum);
                            for (int b = 0; b < band; b++) {
                                const int64_t at = (row + b) * p->width + col;
                                /* behind the end of a row lies the residual of the next, if that is the result */
                                const int free = residual != y || col + FN(LANES) <= p->width;
                                const int whole = i == 0 && at + FN(LANES) <= plane && free;
                                const int64_t n = whole ? FN(LANES) : GEMM_MIN(p->width - col, FN(LANES));
                                FN(vec) v = sum[b];
                                if (i) v += FN(load_part)(to + at, n);
                                if (scale) v = FN(scaled)(v, scale[channel], bias ? bias[channel] : 0);
                                else if (bias) v += bias[channel];
                                if (residual) v += whole ? FN(load)(from + at) : FN(load_part)(from + at, n);
                                if (active) v = FN(rectified)(v, slope);
                                if (whole) FN(store)(to + at, v);
                                else FN(store_part)(to + at, v, n);
                            }
                        }
                        row += band;
                    }
                }
            }
    }
}

/* Copy an output plane so that its rows are whole vectors, zeros behind. */
static void FN(widen)(const depthwise_plan *p, const REAL *from, REAL *to)
{
    const int64_t wide = depthwise_wide(p);
    for (int64_t r = 0; r < p->rows; r++) {
        memcpy(to + r * wide, from + r * p->width, p->width * sizeof(REAL));
        for (int64_t i = p->width; i < wide; i++) to[r * wide + i] = 0;
    }
}

/* dx (N, groups, image) = dy (N, groups * per_group, rows, width) spread over the taps, which go one after the other:
   memory that was just written at another offset is not read back at once. */
static void FN(depthwise_backward_data)(const REAL *w, const REAL *dy, REAL *dx, int64_t n_images, int64_t groups,
                                        int64_t per_group, const int64_t *sizes, const int64_t *tables,
                                        REAL *scratch, int n_threads)
{
    const depthwise_plan plan = depthwise_read(sizes, tables), *p = &plan;
    const int64_t taps = p->n_outer * p->n_inner, plane = p->rows * p->width, wide = depthwise_wide(p);
    const int64_t image = p->image_rows * p->image_width, size = depthwise_scratch(sizes, 1);
    const int64_t length = p->pitch * p->stride;
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t task = 0; task < n_images * groups; task++) {
        REAL *frame = scratch + GEMM_THREAD() * size, *wider = frame + depthwise_frame(p) + 16;
        memset(frame, 0, depthwise_frame(p) * sizeof(REAL));
        for (int64_t o = 0; o < per_group; o++) {
            FN(widen)(p, dy + (task * per_group + o) * plane, wider);
            const REAL *weights = w + (task % groups * per_group + o) * taps;
            for (int64_t ko = 0; ko < p->n_outer; ko++)
                for (int64_t ki = 0; ki < p->n_inner; ki++, weights++)
                    for (int64_t r = 0; r < p->rows; r++) {
                        REAL *to = frame + (p->row[r] + p->outer[ko]) * length + p->inner[ki];
                        for (int64_t i = 0; i < p->width; i += FN(LANES))
                            FN(store)(to + i, FN(load)(to + i) + *weights * FN(load)(wider + r * wide + i));
                    }
        }
        FN(read_frame)(p, frame, dx + task * image);
    }
}

/* dw (groups * per_group, taps) += sum over images and places of dy * x. */
static void FN(depthwise_backward_weight)(const REAL *dy, const REAL *x, REAL *dw, int64_t n_images, int64_t groups,
                                          int64_t per_group, const int64_t *sizes, const int64_t *tables,
                                          REAL *scratch, int n_threads)
{
    const depthwise_plan plan = depthwise_read(sizes, tables), *p = &plan;
    const int64_t taps = p->n_outer * p->n_inner, plane = p->rows * p->width, wide = depthwise_wide(p);
    const int64_t image = p->image_rows * p->image_width, size = depthwise_scratch(sizes, 1);
    const int64_t length = p->pitch * p->stride;
#pragma omp parallel num_threads(n_threads)
    {
        REAL *frame = scratch + GEMM_THREAD() * size, *wider = frame + depthwise_frame(p) + 16;
        REAL *sums = wider + p->rows * wide + 16;
        memset(frame, 0, size * sizeof(REAL));
#pragma omp for schedule(static)
        for (int64_t group = 0; group < groups; group++) {
            memset(sums, 0, per_group * taps * FN(LANES) * sizeof(REAL));
            for (int64_t n = 0; n < n_images; n++) {
                FN(fill_frame)(p, x + (n * groups + group) * image, x + n_images * groups * image, frame);
                for (int64_t o = 0; o < per_group; o++) {
                    FN(widen)(p, dy + ((n * groups + group) * per_group + o) * plane, wider);
                    for (int64_t t = 0; t < taps; t++) {
                        const int64_t offset = p->outer[t / p->n_inner] * length + p->inner[t % p->n_inner];
                        REAL *total = sums + (o * taps + t) * FN(LANES);
                        FN(vec) sum[2] = {FN(load)(total), {0}};
                        for (int64_t r = 0; r < p->rows; r++) {
                            const REAL *at = frame + p->row[r] * length + offset, *g = wider + r * wide;
                            for (int64_t i = 0; i < p->width; i += FN(LANES))
                                sum[r % 2] += FN(load)(g + i) * FN(load)(at + i);
                        }
                        FN(store)(total, sum[0] + sum[1]);
                    }
                }
            }
            for (int64_t i = 0; i < per_group * taps; i++) {
                double total = 0;
                for (int l = 0; l < FN(LANES); l++) total += sums[i * FN(LANES) + l];
                dw[group * per_group * taps + i] += (REAL)total;
            }
        }
    }
}
