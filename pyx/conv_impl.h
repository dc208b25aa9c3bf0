/* The part of conv.h that is compiled for float and for double.

   Tables come from ops/geometry.py.  `sizes` of a view: rows, width, stride, n_outer, n_inner. */

static FN(images) FN(view_of)(const REAL *data, int64_t n_images, int64_t groups, int64_t channels, int64_t plane,
                              const int64_t *sizes, const int64_t *row_from, const int64_t *inner, int by_tap)
{
    const int64_t image = groups * channels * plane;
    return (FN(images)){data, data + n_images * image, image, plane, channels, sizes[0], sizes[1], sizes[2],
                        sizes[3], sizes[4], row_from, inner, by_tap};
}

/* y = act(weights * x * scale + bias + residual) */
static void FN(conv_forward)(const REAL *w, const REAL *x, REAL *y, int64_t n_images, int64_t groups,
                             int64_t channels, int64_t plane, int64_t outputs, const int64_t *sizes,
                             const int64_t *row_from, const int64_t *inner, const REAL *scale, const REAL *bias,
                             const REAL *residual, int active, REAL slope, REAL *scratch, int n_threads)
{
    const int64_t places = sizes[0] * sizes[1], depth = channels * sizes[3] * sizes[4];
    const FN(images) view = FN(view_of)(x, n_images, groups, channels, plane, sizes, row_from, inner, 0);
    const FN(operand) a = {NULL, 0, w, w + groups * outputs * depth, depth, 1}, b = {.images = &view};
    const FN(result) c = {y, places, groups * outputs * places, places, 1};
    const FN(epilogue) e = {scale, bias, residual, 0, active, slope};
    const FN(distance) step = {outputs * depth, channels * plane, outputs * places, outputs};
    FN(multiply)(&a, &b, &c, outputs, n_images * places, depth, groups, &step, &e, 0, scratch, n_threads);
}

/* turned[tap_to[t] + c * tap_step[t] + o] = w[o][c][t] for each group; taps with tap_to < 0 are left out */
static void FN(turn_weights)(const REAL *w, int64_t groups, int64_t outputs, int64_t channels, int64_t taps,
                             const int64_t *tap_to, const int64_t *tap_step, REAL *turned, int n_threads)
{
    const int64_t columns = channels * taps, per_group = gemm_ceil_div(columns, FN(LANES));
    const REAL *end = w + groups * outputs * columns;
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t task = 0; task < groups * per_group; task++) {
        const int64_t group = task / per_group, k0 = task % per_group * FN(LANES);
        const int64_t n = GEMM_MIN(columns - k0, FN(LANES));
        const REAL *from = w + group * outputs * columns + k0;
        REAL *to = turned + group * outputs * columns;
        for (int64_t o = 0; o < outputs; o += FN(LANES)) {
            const int64_t width = GEMM_MIN(outputs - o, FN(LANES));
            FN(vec) v[FN(LANES)];
            for (int i = 0; i < FN(LANES); i++) {
                const REAL *p = from + (o + i) * columns;
                if (i >= width) v[i] = (FN(vec)){0};
                else v[i] = p + FN(LANES) <= end ? FN(load)(p) : FN(load_part)(p, n);
            }
            FN(transpose)(v);
            for (int i = 0; i < n; i++) {
                const int64_t c = (k0 + i) / taps, t = (k0 + i) % taps;
                if (tap_to[t] < 0) continue;
                REAL *at = to + tap_to[t] + c * tap_step[t] + o;
                if (width == FN(LANES)) FN(store)(at, v[i]);
                else FN(store_part)(at, v[i], width);
            }
        }
    }
}

/* dx[plane p][row_to[row] + j * column] = sums[p][row][j]: a phase goes to its places in the planes of images. */
static void FN(spread)(const REAL *sums, int64_t n_planes, int64_t rows, int64_t width, int64_t column,
                       const int64_t *row_to, REAL *dx, int64_t plane, int n_threads)
{
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t p = 0; p < n_planes; p++)
        for (int64_t row = 0; row < rows; row++) {
            const REAL *from = sums + (p * rows + row) * width;
            REAL *to = dx + p * plane + row_to[row];
            for (int64_t j = 0; j < width; j++) to[j * column] = from[j];
        }
}

/* dx = the gradient gathered from dy, one product for each phase of the stride; where a phase meets nothing, zeros.

   Where there are several phases, each is summed side by side in `phase` first: its places in dx, single elements,
   would else be met again for each block of the depth.

   phases: for each, 9 numbers: rows, width, n_outer, n_inner, column step of the result, and where its turned
   weights, row_from, inner and row_to begin; the last three in `tables`. */
static void FN(conv_backward_data)(const REAL *w, const REAL *dy, REAL *dx, int64_t n_images, int64_t groups,
                                   int64_t channels, int64_t plane, int64_t outputs, int64_t places, int64_t taps,
                                   const int64_t *tap_to, const int64_t *tap_step, const int64_t *phases,
                                   int64_t n_phases, const int64_t *tables, REAL *turned, REAL *phase,
                                   REAL *scratch, int n_threads)
{
    const int64_t n_planes = n_images * groups * channels;
    int empty = 0;
    for (int64_t p = 0; p < n_phases; p++) empty |= phases[9 * p + 2] * phases[9 * p + 3] == 0;
    if (empty) {
#pragma omp parallel for num_threads(n_threads) schedule(static)
        for (int64_t i = 0; i < n_planes; i++) memset(dx + i * plane, 0, plane * sizeof(REAL));
    }
    FN(turn_weights)(w, groups, outputs, channels, taps, tap_to, tap_step, turned, n_threads);
    for (int64_t p = 0; p < n_phases; p++, phases += 9) {
        const int64_t rows = phases[0], width = phases[1], depth = outputs * phases[2] * phases[3];
        const int64_t sizes[5] = {rows, width, 1, phases[2], phases[3]};
        if (depth == 0) continue;
        const FN(images) view = FN(view_of)(dy, n_images, groups, outputs, places, sizes, tables + phases[6],
                                            tables + phases[7], 1);
        const int64_t per_group = outputs * channels * taps;
        const FN(operand) a = {NULL, 0, turned + phases[5], turned + groups * per_group, depth, 1};
        const FN(operand) b = {.images = &view};
        const int64_t count = rows * width;
        const FN(result) c = {n_phases > 1 ? phase : dx, count, groups * channels * count, count, 1};
        const FN(epilogue) e = {0};
        const FN(distance) step = {per_group, outputs * places, channels * count, 0};
        FN(multiply)(&a, &b, &c, channels, n_images * count, depth, groups, &step, &e, 0, scratch, n_threads);
        if (n_phases > 1)
            FN(spread)(phase, n_planes, rows, width, phases[4], tables + phases[8], dx, plane, n_threads);
    }
}

/* dw[o * columns + c * taps + t] (+)= sums[(t * channels + c) * width + o], for o < outputs */
static void FN(add_transposed)(const REAL *sums, int64_t width, int64_t channels, int64_t taps, int64_t outputs,
                               REAL *dw, int64_t columns, int add)
{
    for (int64_t k = 0; k < channels * taps; k += FN(LANES)) {
        const int64_t n = GEMM_MIN(channels * taps - k, FN(LANES));
        for (int64_t o = 0; o < outputs; o += FN(LANES)) {
            const int64_t n_outputs = GEMM_MIN(outputs - o, FN(LANES));
            FN(vec) v[FN(LANES)];
            for (int i = 0; i < FN(LANES); i++) {
                v[i] = (FN(vec)){0};
                if (i < n) v[i] = FN(load)(sums + ((k + i) % taps * channels + (k + i) / taps) * width + o);
            }
            FN(transpose)(v);
            for (int i = 0; i < n_outputs; i++) {
                REAL *to = dw + (o + i) * columns + k;
                if (add) v[i] += n == FN(LANES) ? FN(load)(to) : FN(load_part)(to, n);
                if (n == FN(LANES)) FN(store)(to, v[i]);
                else FN(store_part)(to, v[i], n);
            }
        }
    }
}

/* Sums that a task of conv_backward_weight holds, whole panels of outputs by whole channels. */
static inline int64_t FN(sums_of_task)(int64_t taps)
{
    return GEMM_MAX(CONV_SUMS, taps * FN(PANEL)) + FN(LANES);
}

/* dw += sum over images and places of dy * columns of x.

   Of the two operands the one with fewer rows is transposed: the outputs' gradient, or x where a 1 x 1 kernel has more
   outputs than channels ("direct": the sums then lie as dw does).  A task owns channels x outputs of one slab of
   places.  Rows of x go tap by tap, so that one cut of a row of places serves many channels.

   partial: slabs x weights, when there is more than one slab. */
static void FN(conv_backward_weight)(const REAL *dy, const REAL *x, REAL *dw, int64_t n_images, int64_t groups,
                                     int64_t channels, int64_t plane, int64_t outputs, const int64_t *sizes,
                                     const int64_t *row_from, const int64_t *inner, REAL *partial, REAL *scratch,
                                     int n_threads)
{
    const int64_t places = sizes[0] * sizes[1], depth = n_images * places, taps = sizes[3] * sizes[4];
    const int64_t weights = groups * outputs * channels * taps, slabs = conv_slabs(weights, depth);
    const int direct = taps == 1 && outputs > channels;
    const int64_t lefts = direct ? outputs : channels, rights = direct ? channels : outputs;
    const int64_t n_panels = gemm_ceil_div(rights, FN(PANEL));
    const int64_t per_thread = FN(sums_of_task)(taps) + FN(product_scratch)(GEMM_PANELS);
    if (weights == 0 || depth == 0) return;
    const conv_cut cut = conv_choose(lefts * taps, n_panels, groups * slabs, n_threads);
    int64_t panels = cut.panels, share = GEMM_MAX(cut.rows / taps, 1);
    while (panels > 1 && taps * panels * FN(PANEL) > CONV_SUMS) panels--;
    share = GEMM_MAX(GEMM_MIN(share, CONV_SUMS / (taps * panels * FN(PANEL))), 1);
    const int64_t n_shares = gemm_ceil_div(lefts, share), width = panels * FN(PANEL);
    const int64_t n_blocks = gemm_ceil_div(rights, width), n_tasks = groups * slabs * n_shares * n_blocks;
    const int64_t n_depths = gemm_ceil_div(depth, GEMM_KC);
    const int64_t one_sizes[5] = {1, places, 1, 1, 1}, zero = 0, one_inner[3] = {0, 0, places};
#pragma omp parallel for num_threads(n_threads) schedule(dynamic, 1)
    for (int64_t task = 0; task < n_tasks; task++) {
        const int64_t group = task / (slabs * n_shares * n_blocks), slab = task / (n_shares * n_blocks) % slabs;
        const int64_t l0 = task / n_blocks % n_shares * share, r0 = task % n_blocks * width;
        const int64_t n_lefts = GEMM_MIN(share, lefts - l0), n_rights = GEMM_MIN(width, rights - r0);
        const int64_t d0 = n_depths * slab / slabs * GEMM_KC, d1 = n_depths * (slab + 1) / slabs * GEMM_KC;
        const int64_t o0 = direct ? l0 : r0, c0 = direct ? r0 : l0, columns = channels * taps;
        REAL *sums = scratch + GEMM_THREAD() * per_thread;
        REAL *to = (slabs > 1 ? partial + slab * weights : dw) + (group * outputs + o0) * columns + c0 * taps;
        FN(images) xs = FN(view_of)(x, n_images, groups, channels, plane, sizes, row_from, inner, 1);
        FN(images) dys = FN(view_of)(dy, n_images, groups, outputs, places, one_sizes, &zero, one_inner, 0);
        xs.data += (group * channels + c0) * plane, xs.channels = direct ? n_rights : n_lefts;
        dys.data += (group * outputs + o0) * places;
        const FN(operand) a = {.images = direct ? &dys : &xs};
        const FN(operand) b = {.images = direct ? &xs : &dys, .transposed = 1};
        const FN(result) c = {sums, width, 0, width, 1};
        const int64_t tiles = gemm_ceil_div(n_lefts * taps, GEMM_MR);
        const gemm_run all = {0, tiles, 0, tiles, NULL, 0};
        FN(product)(&a, &b, &c, d0, GEMM_MIN(d1, depth), n_lefts * taps, all, 0, n_rights, 0, NULL, 0,
                    sums + FN(sums_of_task)(taps));
        if (direct)
            for (int64_t o = 0; o < n_lefts; o++)
                for (int64_t i = 0; i < n_rights; i++)
                    to[o * columns + i] = sums[o * width + i] + (slabs == 1 ? to[o * columns + i] : 0);
        else FN(add_transposed)(sums, width, n_lefts, taps, n_rights, to, columns, slabs == 1);
    }
    if (slabs == 1) return;
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t i = 0; i < weights; i++) {
        REAL sum = 0;
        for (int64_t slab = 0; slab < slabs; slab++) sum += partial[slab * weights + i];
        dw[i] += sum;
    }
}

static inline int64_t FN(conv_scratch)(int64_t taps, int64_t weights, int64_t depth, int n_threads)
{
    const int64_t slabs = conv_slabs(weights, depth);
    return n_threads * (FN(sums_of_task)(taps) + FN(product_scratch)(GEMM_PANELS)) + FN(LANES)
           + GEMM_MAX(weights, slabs > 1 ? slabs * weights : 0);
}
