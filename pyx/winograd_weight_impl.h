/* The part of winograd_weight.h that is compiled for float and for double. */

/* A dy along one axis: m values at distance `from_step` to n (the transpose of transform_output). */
GEMM_INLINE void FN(transform_gradient)(const int m, const FN(vec) *d, const int from_step, FN(vec) *to)
{
#define D(i) d[(i) * from_step]
    to[0] = D(0);
    to[m + 1] = D(m - 1);
    if (m == 2) {
        to[1] = D(0) + D(1);
        to[2] = D(0) - D(1);
    } else {
        const FN(vec) even_a = D(0) + WINOGRAD_AA * D(2), odd_a = WINOGRAD_A * (D(1) + WINOGRAD_AA * D(3));
        const FN(vec) even_b = D(0) + WINOGRAD_BB * D(2), odd_b = WINOGRAD_B * (D(1) + WINOGRAD_BB * D(3));
        to[1] = even_a + odd_a;
        to[2] = even_a - odd_a;
        to[3] = even_b + odd_b;
        to[4] = even_b - odd_b;
    }
#undef D
}

/* G' p along one axis: n values to 3, at distance `to_step` (the transpose of transform_weights). */
GEMM_INLINE void FN(transform_sums)(const int m, const FN(vec) *p, FN(vec) *to, const int to_step)
{
    if (m == 2) {
        const FN(vec) sum = (REAL)0.5 * (p[1] + p[2]);
        to[0] = p[0] + sum;
        to[to_step] = (REAL)0.5 * (p[1] - p[2]);
        to[2 * to_step] = sum + p[3];
    } else {
        const REAL a = 1 / (2 * WINOGRAD_AA * (WINOGRAD_AA - WINOGRAD_BB));
        const REAL b = 1 / (2 * WINOGRAD_BB * (WINOGRAD_BB - WINOGRAD_AA));
        const FN(vec) sum_a = a * (p[1] + p[2]), sum_b = b * (p[3] + p[4]);
        to[0] = (1 / (WINOGRAD_AA * WINOGRAD_BB)) * p[0] + sum_a + sum_b;
        to[to_step] = (a * WINOGRAD_A) * (p[1] - p[2]) + (b * WINOGRAD_B) * (p[3] - p[4]);
        to[2 * to_step] = WINOGRAD_AA * sum_a + WINOGRAD_BB * sum_b + p[5];
    }
}

/* Images whose rows and columns begin `top` and `left` zeros after those of their frame. */
typedef struct {
    const REAL *data, *end;     /* nothing is read from `end` on */
    int64_t channels, height, width, top, left;
} FN(planes);

/* frame[row][column][LANES] = channels [c, c + n) of rows [first, first + rows) of an image, zeros around it. */
static void FN(load_frame)(const FN(planes) *v, int64_t image, int64_t first, int64_t rows, int64_t columns, int64_t c,
                           int64_t n, REAL *frame)
{
    const int64_t low = GEMM_MIN(GEMM_MAX(-first, 0), rows), high = GEMM_MAX(GEMM_MIN(v->height - first, rows), low);
    const int64_t plane = v->height * v->width, count = (high - low) * v->width, pitch = columns * FN(LANES);
    const REAL *from = v->data + (image * v->channels + c) * plane + (first + low) * v->width;
    for (int64_t i = 0; i < rows; i++) {
        const int inside = low <= i && i < high;
        const int64_t left = inside ? v->left : columns, right = inside ? v->left + v->width : columns;
        memset(frame + i * pitch, 0, left * FN(LANES) * sizeof(REAL));
        memset(frame + i * pitch + right * FN(LANES), 0, (columns - right) * FN(LANES) * sizeof(REAL));
    }
    REAL *to = frame + low * pitch + v->left * FN(LANES);
    int64_t column = 0;
    for (int64_t q = 0; q < count; q += FN(LANES)) {
        const int64_t width = GEMM_MIN(count - q, FN(LANES));
        FN(vec) p[FN(LANES)];
        /* the rows behind are those of the next frame; no prefetcher follows so many short runs */
        for (int64_t i = 0; i < n; i++) __builtin_prefetch(from + i * plane + q + WINOGRAD_AHEAD / sizeof(REAL));
        if (n == FN(LANES) && from + (n - 1) * plane + q + FN(LANES) <= v->end)
#pragma GCC unroll 16
            for (int i = 0; i < FN(LANES); i++) p[i] = FN(load)(from + i * plane + q);
        else
            for (int i = 0; i < FN(LANES); i++) {
                const REAL *at = from + i * plane + q;
                if (i >= n) p[i] = (FN(vec)){0};
                else p[i] = at + FN(LANES) <= v->end ? FN(load)(at) : FN(load_part)(at, width);
            }
        FN(transpose)(p);
#pragma GCC unroll 16
        for (int i = 0; i < FN(LANES); i++) {
            if (i == width) break;
            FN(store)(to, p[i]);
            to += FN(LANES);
            if (++column == v->width) column = 0, to += (columns - v->width) * FN(LANES);
        }
    }
}

/* to[e][tile][row] = the patches of `rows` rows of tiles in a frame, transformed: those of dy, or those of x. */
GEMM_INLINE void FN(transform_frame)(const int m, const int gradient, const REAL *frame, int64_t columns, int64_t rows,
                                     int64_t across, REAL *to, int64_t point, int64_t row)
{
    const int size = m + 2, patch = gradient ? m : m + 2;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < across; j++, to += row) {
            const REAL *from = frame + (i * columns + j) * m * FN(LANES);
            FN(vec) half[6][6], d[6];
#pragma GCC unroll 6
            for (int k = 0; k < patch; k++) {
#pragma GCC unroll 6
                for (int l = 0; l < patch; l++) d[l] = FN(load)(from + (k * columns + l) * FN(LANES));
                if (gradient) FN(transform_gradient)(m, d, 1, half[k]);
                else FN(transform_input)(m, d, 1, half[k]);
            }
#pragma GCC unroll 6
            for (int l = 0; l < size; l++) {
                if (gradient) FN(transform_gradient)(m, &half[0][l], 6, d);
                else FN(transform_input)(m, &half[0][l], 6, d);
#pragma GCC unroll 6
                for (int k = 0; k < size; k++) FN(store)(to + (k * size + l) * point, d[k]);
            }
        }
}

/* Rows of tiles whose frame is in L1, and its elements; patch: places along an edge of a tile's. */
static inline int64_t FN(frame_rows)(int m, const winograd_cut *cut)
{
    const int64_t line = m * (cut->across * m + 2) * FN(LANES) * sizeof(REAL);
    return GEMM_MAX(GEMM_MIN(WINOGRAD_FRAME / line, cut->down), 1);
}

static inline int64_t FN(frame_size)(int m, const winograd_cut *cut)
{
    return (FN(frame_rows)(m, cut) * m + 2) * (cut->across * m + 2) * FN(LANES);
}

/* to[e][tile][row] for LANES channels from c on, n of which count, of the rows of tiles [r0, r1) of the batch. */
GEMM_INLINE void FN(transform_rows)(const int m, const int gradient, const FN(planes) *v, const winograd_cut *cut,
                                    int64_t r0, int64_t r1, int64_t c, int64_t n, REAL *to, int64_t point,
                                    int64_t row, REAL *frame)
{
    const int64_t more = gradient ? 0 : 2, columns = cut->across * m + more, most = FN(frame_rows)(m, cut);
    for (int64_t r = r0, rows; r < r1; r += rows, to += rows * cut->across * row) {
        const int64_t image = r / cut->down, down = r % cut->down;
        rows = GEMM_MIN(GEMM_MIN(cut->down - down, r1 - r), most);
        FN(load_frame)(v, image, down * m - v->top, rows * m + more, columns, c, n, frame);
        FN(transform_frame)(m, gradient, frame, columns, rows, cut->across, to, point, row);
    }
}

static __attribute__((noinline)) void FN(gradient_of)(int m, const FN(planes) *v, const winograd_cut *cut, int64_t r0,
                                                      int64_t r1, int64_t c, int64_t n, REAL *to, int64_t point,
                                                      REAL *frame)
{
    if (m == 2) FN(transform_rows)(2, 1, v, cut, r0, r1, c, n, to, point, FN(ROOM), frame);
    else FN(transform_rows)(4, 1, v, cut, r0, r1, c, n, to, point, FN(ROOM), frame);
}

static __attribute__((noinline)) void FN(patches_of)(int m, const FN(planes) *v, const winograd_cut *cut, int64_t r0,
                                                     int64_t r1, int64_t c, int64_t n, REAL *to, int64_t point,
                                                     int64_t row, REAL *frame)
{
    if (m == 2) FN(transform_rows)(2, 0, v, cut, r0, r1, c, n, to, point, row, frame);
    else FN(transform_rows)(4, 0, v, cut, r0, r1, c, n, to, point, row, frame);
}

/* sums[tap] (+)= the products of one output at all points, transformed back; taps PANEL apart. */
GEMM_INLINE void FN(transform_products)(const int m, const REAL *products, int64_t point, REAL *sums, int add)
{
    const int size = m + 2;
    FN(vec) half[3][6], p[6], out[9];
#pragma GCC unroll 6
    for (int j = 0; j < size; j++) {
#pragma GCC unroll 6
        for (int i = 0; i < size; i++) p[i] = FN(load)(products + (i * size + j) * point);
        FN(transform_sums)(m, p, &half[0][j], 6);
    }
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) FN(transform_sums)(m, half[i], &out[3 * i], 1);
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++) {
        if (add) out[t] += FN(load)(sums + t * FN(PANEL));
        FN(store)(sums + t * FN(PANEL), out[t]);
    }
}

static __attribute__((noinline)) void FN(sums_of)(int m, const REAL *products, int64_t n, int64_t columns, REAL *sums,
                                                  int add)
{
    for (int64_t i = 0; i < n; i++, products += FN(PANEL), sums += 9 * FN(PANEL))
        for (int64_t j = 0; j < columns; j += FN(LANES)) {
            if (m == 2) FN(transform_products)(2, products + j, GEMM_MR * FN(PANEL), sums + j, add);
            else FN(transform_products)(4, products + j, GEMM_MR * FN(PANEL), sums + j, add);
        }
}

/* dw[c * 9 + tap] += the sums of one output for n <= PANEL channels, of `groups` that lie `group` apart. */
static void FN(add_sums)(const REAL *sums, int64_t groups, int64_t group, int64_t n, REAL *dw)
{
    enum { BLOCKS = (9 + FN(LANES) - 1) / FN(LANES) };
    for (int64_t c = 0; c < n; c += FN(LANES), sums += FN(LANES)) {
        const int64_t count = GEMM_MIN(n - c, FN(LANES)) * 9;
        REAL turned[(9 + BLOCKS) * FN(LANES)], *to = dw + c * 9;
        FN(vec) v[BLOCKS * FN(LANES)];
        for (int t = 0; t < BLOCKS * FN(LANES); t++) {
            v[t] = (FN(vec)){0};
            for (int64_t g = 0; g < groups && t < 9; g++) v[t] += FN(load)(sums + g * group + t * FN(PANEL));
        }
        for (int b = 0; b < BLOCKS; b++) FN(transpose)(v + b * FN(LANES));
        /* what is written too much is overwritten by the next channel */
        for (int l = 0; l < FN(LANES); l++)
            for (int b = 0; b < BLOCKS; b++) FN(store)(turned + l * 9 + b * FN(LANES), v[b * FN(LANES) + l]);
        int64_t i = 0;
        for (; i + FN(LANES) <= count; i += FN(LANES)) FN(store)(to + i, FN(load)(to + i) + FN(load)(turned + i));
        for (; i < count; i++) to[i] += turned[i];
    }
}

/* Elements of what a thread has for itself: products, the sums of a tile, a frame, a panel. */
static inline int64_t FN(winograd_weight_private)(int m, const winograd_cut *cut)
{
    const int64_t points = (m + 2) * (m + 2);
    return (points + 9) * GEMM_MR * FN(PANEL) + FN(frame_size)(m, cut) + points * FN(panel_point)(cut->depth);
}

/* Elements of the transformed gradients of all outputs. */
static inline int64_t FN(gradient_size)(int m, const winograd_cut *cut, int64_t outputs)
{
    return gemm_ceil_div(outputs, GEMM_MR) * (m + 2) * (m + 2) * FN(tile_point)(cut->depth);
}

/* Elements of the sums of a group. */
static inline int64_t FN(group_size)(int64_t channels, int64_t outputs)
{
    return gemm_ceil_div(channels, FN(PANEL)) * outputs * 9 * FN(PANEL);
}

/* Elements of scratch: private parts, gradients (of each thread that has slabs of its own), sums of groups. */
static inline int64_t FN(winograd_weight_scratch)(int m, int64_t n_images, int64_t channels, int64_t outputs,
                                                  int64_t height, int64_t width, int n_threads)
{
    const winograd_cut cut = winograd_choose(m, n_images, height, width, channels * outputs * 9);
    return n_threads * FN(winograd_weight_private)(m, &cut) + FN(LANES)
           + (cut.groups < n_threads ? 1 : n_threads) * FN(gradient_size)(m, &cut, outputs)
           + (cut.slabs > 1 ? cut.groups * FN(group_size)(channels, outputs) : 0);
}

/* What threads share. */
typedef struct {
    int m;
    const FN(planes) *x, *dy;
    const winograd_cut *cut;
    REAL *dw, *sums;            /* sums: of all groups, or NULL where there is one slab */
} FN(winograd_weight_work);

/* Where a thread works. */
typedef struct { REAL *products, *sums, *frame, *panel, *gradient; } FN(winograd_weight_room);

/* Transform tile r of the outputs, for a slab. */
static void FN(winograd_gradient)(const FN(winograd_weight_work) *w, int64_t slab, int64_t r,
                                  const FN(winograd_weight_room) *room)
{
    const winograd_cut *cut = w->cut;
    const int64_t point = FN(tile_point)(cut->depth);
    const int64_t outputs = w->dy->channels, n_tiles = gemm_ceil_div(outputs, GEMM_MR);
    const int64_t first = outputs * r / n_tiles, end = outputs * (r + 1) / n_tiles;
    REAL *to = room->gradient + r * (w->m + 2) * (w->m + 2) * point;
    for (int64_t o = first; o < end; o += FN(LANES))
        FN(gradient_of)(w->m, w->dy, cut, cut->rows * slab / cut->slabs, cut->rows * (slab + 1) / cut->slabs, o,
                        GEMM_MIN(end - o, FN(LANES)), to + o - first, point, room->frame);
}

/* Add what a slab of a group gives for a panel of channels and tiles [r0, r1) of the outputs. */
static void FN(winograd_panel)(const FN(winograd_weight_work) *w, int64_t slab, int64_t group, int64_t panel,
                               int64_t r0, int64_t r1, const FN(winograd_weight_room) *room)
{
    const winograd_cut *cut = w->cut;
    const int m = w->m, points = (m + 2) * (m + 2), add = slab > cut->slabs * group / cut->groups;
    const int64_t channels = w->x->channels, outputs = w->dy->channels, n_tiles = gemm_ceil_div(outputs, GEMM_MR);
    const int64_t c = panel * FN(PANEL), columns = GEMM_MIN(channels - c, FN(PANEL));
    const int64_t row = columns > FN(LANES) ? FN(PANEL) : FN(LANES), b_point = FN(panel_point)(cut->depth);
    const int64_t first_row = cut->rows * slab / cut->slabs, end_row = cut->rows * (slab + 1) / cut->slabs;
    const int64_t a_point = FN(tile_point)(cut->depth), depth = (end_row - first_row) * cut->across;
    for (int64_t j = 0; j < columns; j += FN(LANES))
        FN(patches_of)(m, w->x, cut, first_row, end_row, c + j, GEMM_MIN(columns - j, FN(LANES)), room->panel + j,
                       b_point, row, room->frame);
    for (int64_t r = r0; r < r1; r++) {
        const int64_t first = outputs * r / n_tiles, n = outputs * (r + 1) / n_tiles - first;
        const REAL *a = room->gradient + r * points * a_point;
        REAL *sums = room->sums;
        if (w->sums)
            sums = w->sums + group * FN(group_size)(channels, outputs) + (panel * outputs + first) * 9 * FN(PANEL);
        for (int64_t e = 0; e < points; e++)
            FN(side_micros)[columns > FN(LANES)][n - 1](a + e * a_point, room->panel + e * b_point, depth,
                                                        room->products + e * GEMM_MR * FN(PANEL), NULL);
        FN(sums_of)(m, room->products, n, columns, sums, add);
        for (int64_t i = 0; i < n && !w->sums; i++)
            FN(add_sums)(sums + i * 9 * FN(PANEL), 1, 0, columns, w->dw + ((first + i) * channels + c) * 9);
    }
}

/* dw (outputs, channels, 3, 3) += the gradient by weight, from x (N, channels, x_height, x_width) that lies in a frame
   of zeros `top` and `left` wide and dy (N, outputs, height, width). */
static void FN(winograd_weight)(int m, const REAL *dy, const REAL *x, REAL *dw, int64_t n_images, int64_t channels,
                                int64_t x_height, int64_t x_width, int64_t outputs, int64_t height, int64_t width,
                                int64_t top, int64_t left, REAL *scratch, int n_threads)
{
    const winograd_cut cut = winograd_choose(m, n_images, height, width, channels * outputs * 9);
    const FN(planes) xs = {x, x + n_images * channels * x_height * x_width, channels, x_height, x_width, top, left};
    const FN(planes) dys = {dy, dy + n_images * outputs * height * width, outputs, height, width, 0, 0};
    const int64_t n_tiles = gemm_ceil_div(outputs, GEMM_MR), n_panels = gemm_ceil_div(channels, FN(PANEL));
    const int64_t points = (m + 2) * (m + 2), private = FN(winograd_weight_private)(m, &cut);
    const int64_t gradients = FN(gradient_size)(m, &cut, outputs);
    const int together = cut.groups < n_threads;
    /* enough tasks for all threads, each of which transforms its panel */
    const int64_t shares = GEMM_MIN(gemm_ceil_div(2 * n_threads, n_panels), n_tiles);
    REAL *begin = FN(aligned)(scratch), *gradient = begin + n_threads * private;
    REAL *sums = gradient + (together ? 1 : n_threads) * gradients;
    const FN(winograd_weight_work) work = {m, &xs, &dys, &cut, dw, cut.slabs > 1 ? sums : NULL};
#pragma omp parallel num_threads(n_threads)
    {
        FN(winograd_weight_room) room;
        room.products = begin + GEMM_THREAD() * private;
        room.sums = room.products + points * GEMM_MR * FN(PANEL);
        room.frame = room.sums + 9 * GEMM_MR * FN(PANEL);
        room.panel = room.frame + FN(frame_size)(m, &cut);
        room.gradient = gradient + (together ? 0 : GEMM_THREAD()) * gradients;
        if (together)
            for (int64_t group = 0, slab = 0; group < cut.groups; group++)
                for (; slab < cut.slabs * (group + 1) / cut.groups; slab++) {
#pragma omp for schedule(dynamic, 1)
                    for (int64_t r = 0; r < n_tiles; r++) FN(winograd_gradient)(&work, slab, r, &room);
#pragma omp for schedule(dynamic, 1)
                    for (int64_t task = 0; task < n_panels * shares; task++) {
                        const int64_t part = task % shares;
                        FN(winograd_panel)(&work, slab, group, task / shares, n_tiles * part / shares,
                                           n_tiles * (part + 1) / shares, &room);
                    }
                }
        else {
#pragma omp for schedule(dynamic, 1)
            for (int64_t group = 0; group < cut.groups; group++) {
                const int64_t end = cut.slabs * (group + 1) / cut.groups;
                for (int64_t slab = cut.slabs * group / cut.groups; slab < end; slab++) {
                    for (int64_t r = 0; r < n_tiles; r++) FN(winograd_gradient)(&work, slab, r, &room);
                    for (int64_t panel = 0; panel < n_panels; panel++)
                        FN(winograd_panel)(&work, slab, group, panel, 0, n_tiles, &room);
                }
            }
        }
        if (work.sums) {
#pragma omp for schedule(static)
            for (int64_t o = 0; o < outputs; o++)
                for (int64_t panel = 0; panel < n_panels; panel++)
                    FN(add_sums)(sums + (panel * outputs + o) * 9 * FN(PANEL), cut.groups,
                                 FN(group_size)(channels, outputs), GEMM_MIN(channels - panel * FN(PANEL), FN(PANEL)),
                                 dw + (o * channels + panel * FN(PANEL)) * 9);
        }
    }
}
