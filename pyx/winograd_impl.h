/* The part of winograd.h that is compiled for float and for double. */

/* Squares of the points of m = 4. */
#define WINOGRAD_A ((REAL)0.75)
#define WINOGRAD_B ((REAL)1.5)
#define WINOGRAD_AA ((REAL)0.5625)
#define WINOGRAD_BB ((REAL)2.25)

/* B' d along one axis: n values at distance `from_step`, written at distance `to_step` (in vectors). */
GEMM_INLINE void FN(transform_input)(const int m, const FN(vec) *d, const int from_step, FN(vec) *to)
{
#define D(i) d[(i) * from_step]
    if (m == 2) {
        to[0] = D(0) - D(2);
        to[1] = D(1) + D(2);
        to[2] = D(2) - D(1);
        to[3] = D(3) - D(1);
    } else {
        const FN(vec) even_a = D(4) - WINOGRAD_BB * D(2), odd_a = WINOGRAD_A * (D(3) - WINOGRAD_BB * D(1));
        const FN(vec) even_b = D(4) - WINOGRAD_AA * D(2), odd_b = WINOGRAD_B * (D(3) - WINOGRAD_AA * D(1));
        to[0] = D(4) - (WINOGRAD_AA + WINOGRAD_BB) * D(2) + WINOGRAD_AA * WINOGRAD_BB * D(0);
        to[1] = even_a + odd_a;
        to[2] = even_a - odd_a;
        to[3] = even_b + odd_b;
        to[4] = even_b - odd_b;
        to[5] = D(5) - (WINOGRAD_AA + WINOGRAD_BB) * D(3) + WINOGRAD_AA * WINOGRAD_BB * D(1);
    }
#undef D
}

/* G g along one axis: 3 values to n. */
GEMM_INLINE void FN(transform_weights)(const int m, FN(vec) g0, FN(vec) g1, FN(vec) g2, FN(vec) *to)
{
    if (m == 2) {
        to[0] = g0;
        to[1] = (REAL)0.5 * (g0 + g2 + g1);
        to[2] = (REAL)0.5 * (g0 + g2 - g1);
        to[3] = g2;
    } else {
        const REAL a = 1 / (2 * WINOGRAD_AA * (WINOGRAD_AA - WINOGRAD_BB));
        const REAL b = 1 / (2 * WINOGRAD_BB * (WINOGRAD_BB - WINOGRAD_AA));
        to[0] = g0 * (1 / (WINOGRAD_AA * WINOGRAD_BB));
        to[1] = a * (g0 + WINOGRAD_AA * g2 + WINOGRAD_A * g1);
        to[2] = a * (g0 + WINOGRAD_AA * g2 - WINOGRAD_A * g1);
        to[3] = b * (g0 + WINOGRAD_BB * g2 + WINOGRAD_B * g1);
        to[4] = b * (g0 + WINOGRAD_BB * g2 - WINOGRAD_B * g1);
        to[5] = g2;
    }
}

/* A' p along one axis: n values to m. */
GEMM_INLINE void FN(transform_output)(const int m, const FN(vec) *p, FN(vec) *to, const int to_step)
{
    if (m == 2) {
        to[0] = p[0] + p[1] + p[2];
        to[to_step] = p[1] - p[2] + p[3];
    } else {
        const FN(vec) sum_a = p[1] + p[2], sum_b = p[3] + p[4];
        const FN(vec) dif_a = WINOGRAD_A * (p[1] - p[2]), dif_b = WINOGRAD_B * (p[3] - p[4]);
        to[0] = p[0] + sum_a + sum_b;
        to[to_step] = dif_a + dif_b;
        to[2 * to_step] = WINOGRAD_AA * sum_a + WINOGRAD_BB * sum_b;
        to[3 * to_step] = WINOGRAD_AA * dif_a + WINOGRAD_BB * dif_b + p[5];
    }
}

/* Where element (row, channel) of the weights begins, and whether its nine taps count from the last. */
typedef struct {
    const REAL *data, *end;
    int64_t rows, row, channel;
    int flipped;
} FN(kernels);

/* to[e][channel][ROOM] for rows [m, m + n), points e at distance `point`; temp: 9 * LANES * ROOM elements */
GEMM_INLINE void FN(winograd_weights)(const int m, const FN(kernels) *w, int64_t first, int64_t n, int64_t channels,
                                      REAL *to, int64_t point, REAL *temp)
{
    const int size = m + 2;
    for (int64_t c0 = 0; c0 < channels; c0 += FN(LANES)) {
        const int64_t nc = GEMM_MIN(channels - c0, FN(LANES)), row = FN(ROOM);
        const REAL *from = w->data + first * w->row + c0 * w->channel;
        if (w->channel == 9) FN(copy_transposed)(from, w->row, w->end, 9 * nc, n, temp, row, 1);
        else
            for (int64_t c = 0; c < nc; c++)
                FN(copy_transposed)(from + c * w->channel, w->row, w->end, 9, n, temp + c * 9 * row, row, 1);
        for (int64_t c = 0; c < nc; c++)
            for (int64_t r = 0; r < n; r += FN(LANES)) {
                const REAL *g = temp + c * 9 * row + r;
                FN(vec) half[3][6], u[6];
#define G(t) FN(load)(g + (w->flipped ? 8 - (t) : (t)) * row)
#pragma GCC unroll 3
                for (int j = 0; j < 3; j++) FN(transform_weights)(m, G(j), G(3 + j), G(6 + j), half[j]);
#undef G
#pragma GCC unroll 6
                for (int i = 0; i < size; i++) {
                    FN(transform_weights)(m, half[0][i], half[1][i], half[2][i], u);
#pragma GCC unroll 6
                    for (int j = 0; j < size; j++)
                        FN(store)(to + (i * size + j) * point + (c0 + c) * row + r, u[j]);
                }
            }
    }
}

/* Every m-th element of m vectors, beginning with the j-th. */
GEMM_INLINE void FN(take_apart)(const int m, const REAL *strip, const int count, FN(vec) *to)
{
    const FN(vec) a = FN(load)(strip), b = FN(load)(strip + FN(LANES));
    if (m == 2) {
        to[0] = FN(evens)(a, b);
        to[1] = FN(odds)(a, b);
        return;
    }
    const FN(vec) c = FN(load)(strip + 2 * FN(LANES)), d = FN(load)(strip + 3 * FN(LANES));
    const FN(vec) even = FN(evens)(a, b), even2 = FN(evens)(c, d), odd = FN(odds)(a, b), odd2 = FN(odds)(c, d);
    to[0] = FN(evens)(even, even2);
    to[1] = FN(evens)(odd, odd2);
    if (count > 2) {
        to[2] = FN(odds)(even, even2);
        to[3] = FN(odds)(odd, odd2);
    }
}

/* to[e][channel][lanes of the panel] for LANES tiles from `tile` on and channels [c0, c1). */
GEMM_INLINE void FN(winograd_input)(const int m, const FN(images) *v, int64_t c0, int64_t c1, int64_t tile, int64_t n,
                                    REAL *to, int64_t point, int64_t row, REAL *strips)
{
    const int size = m + 2, width = m * FN(LANES), taps = 2 * size;
    FN(load_images)(v, c0 * taps, c1 * taps, tile * m, (tile + n) * m, width, strips, width);
    for (int64_t c = c0; c < c1; c++, strips += taps * width) {
        FN(vec) half[6][6], d[6];
#pragma GCC unroll 6
        for (int i = 0; i < size; i++) {
            FN(take_apart)(m, strips + 2 * i * width, m, d);
            FN(take_apart)(m, strips + (2 * i + 1) * width, 2, d + m);
            FN(transform_input)(m, d, 1, half[i]);
        }
#pragma GCC unroll 6
        for (int j = 0; j < size; j++) {
            FN(transform_input)(m, &half[0][j], 6, d);
#pragma GCC unroll 6
            for (int i = 0; i < size; i++) FN(store)(to + (i * size + j) * point + c * row, d[i]);
        }
    }
}

/* A result, and what happens to it; see FN(epilogue). */
typedef struct {
    REAL *data;
    int64_t image, plane, height, width, down, across;      /* down, across: tiles of an image */
    const REAL *scale, *bias, *residual;
    int active;
    REAL slope;
} FN(winograd_result);

/* Where a tile lies. */
typedef struct { int64_t image, down, across; } FN(tile_place);

GEMM_INLINE FN(tile_place) FN(first_place)(const FN(winograd_result) *y, int64_t tile)
{
    const int64_t image = tile / (y->down * y->across), at = tile - image * y->down * y->across;
    return (FN(tile_place)){image, at / y->across, at % y->across};
}

GEMM_INLINE void FN(next_place)(const FN(winograd_result) *y, FN(tile_place) *at)
{
    if (++at->across < y->across) return;
    at->across = 0;
    if (++at->down == y->down) at->down = 0, at->image++;
}

GEMM_INLINE int64_t FN(place_offset)(const int m, const FN(winograd_result) *y, int64_t output,
                                     const FN(tile_place) *at)
{
    return at->image * y->image + output * y->plane + at->down * m * y->width + at->across * m;
}

/* tiles[lane][m * m] = act(tiles + residual) for n tiles from `tile` on; m: a constant where this is called */
GEMM_INLINE void FN(add_residual)(const int m, const FN(winograd_result) *y, int64_t output, int64_t tile, int64_t n,
                                  REAL *tiles)
{
    REAL more[FN(LANES) * 16] = {0}, *to = more;
    FN(tile_place) at = FN(first_place)(y, tile);
    for (int64_t l = 0; l < n; l++, to += m * m, FN(next_place)(y, &at)) {
        const int64_t rows = GEMM_MIN(m, y->height - at.down * m), columns = GEMM_MIN(m, y->width - at.across * m);
        const REAL *from = y->residual + FN(place_offset)(m, y, output, &at);
        if (columns == m)
            for (int64_t i = 0; i < rows; i++) memcpy(to + i * m, from + i * y->width, m * sizeof(REAL));
        else
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < columns; j++) to[i * m + j] = from[i * y->width + j];
    }
    for (int64_t i = 0; i < n * m * m; i += FN(LANES)) {
        FN(vec) v = FN(load)(tiles + i) + FN(load)(more + i);
        if (y->active) v = FN(rectified)(v, y->slope);
        FN(store)(tiles + i, v);
    }
}

static __attribute__((noinline)) void FN(residual_of)(int m, const FN(winograd_result) *y, int64_t output,
                                                      int64_t tile, int64_t n, REAL *tiles)
{
    if (m == 2) FN(add_residual)(2, y, output, tile, n, tiles);
    else FN(add_residual)(4, y, output, tile, n, tiles);
}

/* Transform the products of one row of outputs back and write LANES tiles from `tile` on, n of which exist. */
GEMM_INLINE void FN(winograd_output)(const int m, const REAL *products, int64_t point, const FN(winograd_result) *y,
                                     int64_t output, int64_t tile, int64_t n)
{
    const int size = m + 2, area = m * m;
    FN(vec) half[4][6], p[6], out[16];
#pragma GCC unroll 6
    for (int j = 0; j < size; j++) {
#pragma GCC unroll 6
        for (int i = 0; i < size; i++) p[i] = FN(load)(products + (i * size + j) * point);
        FN(transform_output)(m, p, &half[0][j], 6);
    }
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) FN(transform_output)(m, half[i], &out[i * m], 1);
    if (y->scale || y->bias) {
        const REAL scale = y->scale ? y->scale[output] : 1, bias = y->bias ? y->bias[output] : 0;
#pragma GCC unroll 16
        for (int i = 0; i < area; i++) out[i] = FN(scaled)(out[i], scale, bias);
    }
    if (y->active && !y->residual)
#pragma GCC unroll 16
        for (int i = 0; i < area; i++) out[i] = FN(rectified)(out[i], y->slope);
    /* tiles[lane][i * m + j] */
    REAL tiles[FN(LANES) * 16];
    if (area % FN(LANES) == 0)
        for (int part = 0; part < area; part += FN(LANES)) {
            FN(transpose)(out + part);
            for (int l = 0; l < FN(LANES); l++) FN(store)(tiles + l * area + part, out[part + l]);
        }
    else
        for (int i = 0; i < area; i++)
            for (int l = 0; l < FN(LANES); l++) tiles[l * area + i] = out[i][l];
    if (y->residual) FN(residual_of)(m, y, output, tile, n, tiles);
    FN(tile_place) at = FN(first_place)(y, tile);
    for (int64_t l = 0; l < n; l++, FN(next_place)(y, &at)) {
        const int64_t rows = GEMM_MIN(m, y->height - at.down * m), columns = GEMM_MIN(m, y->width - at.across * m);
        REAL *from = tiles + l * area, *to = y->data + FN(place_offset)(m, y, output, &at);
        if (columns == m)
            for (int64_t i = 0; i < rows; i++) memcpy(to + i * y->width, from + i * m, m * sizeof(REAL));
        else
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < columns; j++) to[i * y->width + j] = from[i * m + j];
    }
}

/* Distances of the points in tiles of A and in panels of B: lines of the cache that follow each other, not one set. */
static inline int64_t FN(tile_point)(int64_t depth) { return depth * FN(ROOM) + FN(LANES); }
static inline int64_t FN(panel_point)(int64_t depth) { return depth * FN(PANEL) + FN(LANES); }

/* Tiles of a block: whole panels that fit into L2. */
static inline int64_t FN(winograd_block)(int m, int64_t channels, int64_t tiles)
{
    const int64_t bytes = (m + 2) * (m + 2) * FN(panel_point)(channels) * sizeof(REAL);
    const int64_t panels = GEMM_MAX(WINOGRAD_BYTES / bytes, 1), all = gemm_ceil_div(tiles, FN(PANEL));
    return GEMM_MIN(panels, all) * FN(PANEL);
}

static inline int64_t FN(winograd_private)(int m)
{
    const int64_t points = (m + 2) * (m + 2);
    return points * GEMM_MR * FN(PANEL) + WINOGRAD_CHANNELS * 2 * (m + 2) * m * FN(LANES)
           + 9 * FN(LANES) * FN(ROOM) + 4 * FN(LANES);
}

/* Elements of scratch: private parts, panels of a block, weights (of all outputs, or of a tile for each thread). */
static inline int64_t FN(winograd_scratch)(int m, int64_t rows, int64_t channels, int64_t tiles, int n_threads)
{
    const int64_t points = (m + 2) * (m + 2), block = FN(winograd_block)(m, channels, tiles);
    const int64_t weights = points * FN(tile_point)(channels);
    const int64_t panels = block / FN(PANEL) * points * FN(panel_point)(channels);
    return n_threads * FN(winograd_private)(m) + 4 * FN(LANES)
           + (block >= tiles ? panels + n_threads * weights
                             : n_threads * panels + gemm_ceil_div(rows, GEMM_MR) * weights);
}

/* The transforms with m known to the compiler. */
static __attribute__((noinline)) void FN(weights_of)(int m, const FN(kernels) *w, int64_t first, int64_t n,
                                                     int64_t channels, REAL *to, int64_t point, REAL *temp)
{
    if (m == 2) FN(winograd_weights)(2, w, first, n, channels, to, point, temp);
    else FN(winograd_weights)(4, w, first, n, channels, to, point, temp);
}

static __attribute__((noinline)) void FN(input_of)(int m, const FN(images) *v, int64_t c0, int64_t c1, int64_t tile,
                                                   int64_t n, REAL *to, int64_t point, int64_t row, REAL *strips)
{
    if (m == 2) FN(winograd_input)(2, v, c0, c1, tile, n, to, point, row, strips);
    else FN(winograd_input)(4, v, c0, c1, tile, n, to, point, row, strips);
}

static __attribute__((noinline)) void FN(output_of)(int m, const REAL *products, int64_t point,
                                                    const FN(winograd_result) *y, int64_t output, int64_t tile,
                                                    int64_t n)
{
    if (m == 2) FN(winograd_output)(2, products, point, y, output, tile, n);
    else FN(winograd_output)(4, products, point, y, output, tile, n);
}

/* Where a thread works. */
typedef struct { REAL *products, *strips, *temp, *panels; } FN(winograd_room);

/* Transform the channels from c on of the LANES tiles of one vector of the block of tiles [t0, t1). */
static void FN(winograd_vector)(int m, const FN(images) *v, int64_t t0, int64_t t1, int64_t vector, int64_t c,
                                const FN(winograd_room) *room)
{
    const int64_t points = (m + 2) * (m + 2), v_point = FN(panel_point)(v->channels);
    const int64_t tile = t0 + vector * FN(LANES), p = vector / GEMM_NV;
    const int64_t row = t1 - t0 - p * FN(PANEL) > FN(LANES) ? FN(PANEL) : FN(LANES);
    FN(input_of)(m, v, c, GEMM_MIN(c + WINOGRAD_CHANNELS, v->channels), tile, GEMM_MIN(FN(LANES), t1 - tile),
                 room->panels + p * points * v_point + vector % GEMM_NV * FN(LANES), v_point, row, room->strips);
}

/* Results of n outputs from `first` on of the block of tiles [t0, t1), with their transformed weights `a`. */
static void FN(winograd_rows)(int m, const REAL *a, const FN(winograd_result) *y, int64_t channels, int64_t t0,
                              int64_t t1, int64_t first, int64_t n, const FN(winograd_room) *room)
{
    const int64_t points = (m + 2) * (m + 2);
    const int64_t w_point = FN(tile_point)(channels), v_point = FN(panel_point)(channels);
    for (int64_t tile = t0, p = 0; tile < t1; tile += FN(PANEL), p++) {
        const int64_t n_tiles = GEMM_MIN(t1 - tile, FN(PANEL));
        for (int64_t e = 0; e < points; e++)
            FN(side_micros)[n_tiles > FN(LANES)][n - 1](a + e * w_point, room->panels + (p * points + e) * v_point,
                                                       channels, room->products + e * GEMM_MR * FN(PANEL),
                                                       NULL);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n_tiles; j += FN(LANES))
                FN(output_of)(m, room->products + i * FN(PANEL) + j, GEMM_MR * FN(PANEL), y, first + i, tile + j,
                              GEMM_MIN(n_tiles - j, FN(LANES)));
    }
}

static void FN(winograd_tiles)(int m, const FN(kernels) *w, const FN(images) *v,
                                   const FN(winograd_result) *y, int64_t tiles, REAL *scratch, int n_threads)
{
    const int64_t points = (m + 2) * (m + 2), channels = v->channels, block = FN(winograd_block)(m, channels, tiles);
    const int64_t n_vectors = gemm_ceil_div(tiles, FN(LANES)), n_parts = gemm_ceil_div(channels, WINOGRAD_CHANNELS);
    const int64_t w_tile = points * FN(tile_point)(channels);
    const int64_t v_block = block / FN(PANEL) * points * FN(panel_point)(channels);
    const int at_once = block >= tiles;
    int64_t n_rows = gemm_ceil_div(w->rows, GEMM_MR), n_blocks = gemm_ceil_div(tiles, block);
    REAL *private = FN(aligned)(scratch), *panels = private + n_threads * FN(winograd_private)(m);
    REAL *weights = panels + (at_once ? 1 : n_threads) * v_block;
    if (tiles == 0 || w->rows == 0) return;
    /* as much for each thread */
    if (at_once && n_rows < 8 * n_threads)
        n_rows = GEMM_MIN(gemm_ceil_div(n_rows, n_threads) * n_threads, w->rows);
    n_blocks = GEMM_MIN(gemm_ceil_div(n_blocks, n_threads) * n_threads, n_vectors);
#pragma omp parallel num_threads(n_threads)
    {
        FN(winograd_room) room;
        room.products = private + GEMM_THREAD() * FN(winograd_private)(m);
        room.strips = room.products + points * GEMM_MR * FN(PANEL);
        room.temp = room.strips + WINOGRAD_CHANNELS * 2 * (m + 2) * m * FN(LANES);
        room.panels = panels + (at_once ? 0 : GEMM_THREAD()) * v_block;
        if (at_once) {
#pragma omp for schedule(dynamic, 1)
            for (int64_t task = 0; task < n_vectors * n_parts; task++)
                FN(winograd_vector)(m, v, 0, tiles, task / n_parts, task % n_parts * WINOGRAD_CHANNELS, &room);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t r = 0; r < n_rows; r++) {
            const int64_t first = w->rows * r / n_rows, n = w->rows * (r + 1) / n_rows - first;
            REAL *a = weights + (at_once ? GEMM_THREAD() : r) * w_tile;
            FN(weights_of)(m, w, first, n, channels, a, FN(tile_point)(channels), room.temp);
            if (at_once) FN(winograd_rows)(m, a, y, channels, 0, tiles, first, n, &room);
        }
        if (!at_once) {
#pragma omp for schedule(dynamic, 1)
            for (int64_t b = 0; b < n_blocks; b++) {
                const int64_t t0 = n_vectors * b / n_blocks * FN(LANES);
                const int64_t t1 = GEMM_MIN(n_vectors * (b + 1) / n_blocks * FN(LANES), tiles);
                for (int64_t vector = 0; vector * FN(LANES) < t1 - t0; vector++)
                    for (int64_t c = 0; c < channels; c += WINOGRAD_CHANNELS)
                        FN(winograd_vector)(m, v, t0, t1, vector, c, &room);
                for (int64_t r = 0; r < n_rows; r++) {
                    const int64_t first = w->rows * r / n_rows, n = w->rows * (r + 1) / n_rows - first;
                    FN(winograd_rows)(m, weights + r * w_tile, y, channels, t0, t1, first, n, &room);
                }
            }
        }
    }
}

/* y (N, outputs, height, width) = act(3 x 3 kernels * x (N, channels, plane) * scale + bias + residual).

   w is [output][channel][tap] or, for a gradient, [channel][output][tap], taps from last to first.
   row_from (m + 2, tiles down), inner (2, 3): see FN(images), for a vertical stride of m. */
static void FN(winograd)(int m, const REAL *w, int gradient, const REAL *x, REAL *y, int64_t n_images, int64_t channels,
                         int64_t plane, int64_t outputs, int64_t height, int64_t width, const int64_t *row_from,
                         const int64_t *inner, const REAL *scale, const REAL *bias, const REAL *residual, int active,
                         REAL slope, REAL *scratch, int n_threads)
{
    const int64_t down = gemm_ceil_div(height, m), across = gemm_ceil_div(width, m), all = n_images * channels * plane;
    const FN(kernels) kernels = {w, w + outputs * channels * 9, outputs, gradient ? 9 : channels * 9,
                                 gradient ? outputs * 9 : 9, gradient};
    const FN(images) view = {x, x + all, channels * plane, plane, channels, down, across * m, 1, m + 2, 2,
                             row_from, inner, 0};
    const FN(winograd_result) result = {y, outputs * height * width, height * width, height, width, down, across,
                                        scale, bias, residual, active, slope};
    FN(winograd_tiles)(m, &kernels, &view, &result, n_images * down * across, scratch, n_threads);
}
