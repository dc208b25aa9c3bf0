/* The part of gemm.h that is compiled for float and for double. */

typedef REAL FN(vec) __attribute__((vector_size(GEMM_BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER FN(ivec) __attribute__((vector_size(GEMM_BYTES), aligned(sizeof(REAL)), may_alias));

enum {
    FN(LANES) = GEMM_BYTES / sizeof(REAL),
    FN(PANEL) = GEMM_NV * FN(LANES),              /* columns of a panel */
    FN(ROOM) = (GEMM_MR + FN(LANES) - 1) / FN(LANES) * FN(LANES),   /* rows of a tile of A, whole vectors */
    FN(BLOCK) = GEMM_PANELS * FN(PANEL)           /* most columns of a task */
};

static const INTEGER FN(counting)[2 * 16] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                           16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

GEMM_INLINE FN(vec) FN(load)(const REAL *p) { return *(const FN(vec) *)p; }
GEMM_INLINE void FN(store)(REAL *p, FN(vec) v) { *(FN(vec) *)p = v; }
GEMM_INLINE FN(ivec) FN(lane_numbers)(void) { return *(const FN(ivec) *)FN(counting); }

/* a where the mask is set, else b */
GEMM_INLINE FN(vec) FN(select)(FN(ivec) mask, FN(vec) a, FN(vec) b)
{
    return (FN(vec))((mask & (FN(ivec))a) | (~mask & (FN(ivec))b));
}

/* Copy n < LANES elements in pieces of 8, 4, ..., each a few instructions. */
GEMM_INLINE void FN(copy_few)(REAL *to, const REAL *from, int64_t n)
{
#pragma GCC unroll 4
    for (int64_t piece = FN(LANES) / 2; piece; piece /= 2)
        if (n & piece) memcpy(to, from, piece * sizeof(REAL)), to += piece, from += piece;
}

/* The first n <= LANES lanes of memory, zeros behind. */
GEMM_INLINE FN(vec) FN(load_part)(const REAL *p, int64_t n)
{
    REAL part[FN(LANES)] = {0};
    if (n >= FN(LANES)) return FN(load)(p);
    FN(copy_few)(part, p, n);
    return FN(load)(part);
}

GEMM_INLINE void FN(store_part)(REAL *p, FN(vec) v, int64_t n)
{
    REAL part[FN(LANES)];
    if (n >= FN(LANES)) {
        FN(store)(p, v);
        return;
    }
    FN(store)(part, v);
    FN(copy_few)(p, part, n);
}

/* Every second element of a and b. */
GEMM_INLINE FN(vec) FN(evens)(FN(vec) a, FN(vec) b)
{
#ifdef __clang__
    FN(vec) r;
    for (int i = 0; i < FN(LANES) / 2; i++) r[i] = a[2 * i], r[i + FN(LANES) / 2] = b[2 * i];
    return r;
#else
    return __builtin_shuffle(a, b, FN(lane_numbers)() * 2);
#endif
}

/* Every second element of a and b, beginning with the second. */
GEMM_INLINE FN(vec) FN(odds)(FN(vec) a, FN(vec) b)
{
#ifdef __clang__
    FN(vec) r;
    for (int i = 0; i < FN(LANES) / 2; i++) r[i] = a[2 * i + 1], r[i + FN(LANES) / 2] = b[2 * i + 1];
    return r;
#else
    return __builtin_shuffle(a, b, FN(lane_numbers)() * 2 + 1);
#endif
}

/* Transpose LANES vectors in registers: halves of pairs change places, at distances 1, 2, 4, ... */
GEMM_INLINE void FN(transpose)(FN(vec) *v)
{
#ifdef __clang__
    REAL t[FN(LANES)][FN(LANES)];
    for (int i = 0; i < FN(LANES); i++)
        for (int j = 0; j < FN(LANES); j++) t[j][i] = v[i][j];
    memcpy(v, t, sizeof t);
#else
    const FN(ivec) lane = FN(lane_numbers)();
#pragma GCC unroll 4
    for (int s = 1; s < FN(LANES); s *= 2) {
        const FN(ivec) high = (lane & s) != 0;          /* -1 in the lanes of the other half */
        const FN(ivec) low_mask = lane + (high & (FN(LANES) - s)), high_mask = low_mask + s;
#pragma GCC unroll 16
        for (int i = 0; i < FN(LANES); i++)
            if (!(i & s)) {
                const FN(vec) a = v[i], b = v[i + s];
                v[i] = __builtin_shuffle(a, b, low_mask);
                v[i + s] = __builtin_shuffle(a, b, high_mask);
            }
    }
#endif
}

/* to[i * to_row + j] = from[i + j * from_column] for i < ni, j < nj: columns become rows.

   end: nothing is read from there on; spill: whole vectors may be written over what follows in a row of `to`. */
static void FN(copy_transposed)(const REAL *from, int64_t from_column, const REAL *end, int64_t ni, int64_t nj,
                                REAL *to, int64_t to_row, int spill)
{
    for (int64_t j = 0; j < nj; j += FN(LANES)) {
        const int wj = (int)GEMM_MIN(nj - j, FN(LANES));
        for (int64_t i = 0; i < ni; i += FN(LANES)) {
            const int wi = (int)GEMM_MIN(ni - i, FN(LANES));
            const REAL *at = from + i + j * from_column;
            FN(vec) v[FN(LANES)];
            for (int b = 0; b < FN(LANES); b++) {
                const REAL *p = at + b * from_column;
                if (b >= wj) v[b] = (FN(vec)){0};
                else if (p + FN(LANES) <= end) v[b] = FN(load)(p);
                else v[b] = FN(load_part)(p, wi);
            }
            FN(transpose)(v);
            for (int b = 0; b < wi; b++) {
                if (spill || wj == FN(LANES)) FN(store)(to + (i + b) * to_row + j, v[b]);
                else FN(store_part)(to + (i + b) * to_row + j, v[b], wj);
            }
        }
    }
}

/* ---- operands ---- */

/* The columns of images that a kernel meets.

   Row k = channel * taps + tap (or, by_tap, tap * channels + channel), column q = place of image q / places, places
   being `rows` x `width`.  A tap is an outer position (all axes but the last) and an inner one:

       element = data[(q / places) * image + channel * plane + row_from[outer][row] + inner[0] + col * stride]

   or 0 where row_from is negative or col lies outside of [inner[1], inner[2]). */
typedef struct {
    const REAL *data, *end;             /* nothing is read from `end` on */
    int64_t image, plane, channels, rows, width, stride, n_outer, n_inner;
    const int64_t *row_from, *inner;    /* (n_outer, rows), (n_inner, 3) */
    int by_tap;
} FN(images);

/* A or B; element (i, j) is data[i * row + j * column], or that of `images`, whose rows are i, or j if transposed. */
typedef struct {
    const FN(images) *images;
    int transposed;
    const REAL *data, *end;
    int64_t row, column;
} FN(operand);

/* One piece of a row of columns: `length` elements from `from` on (-1: zeros), to be written at `at`. */
typedef struct { int64_t at, length, from; } FN(piece);

GEMM_INLINE int FN(add_piece)(FN(piece) *pieces, int n, int64_t at, int64_t length, int64_t from, int64_t stride)
{
    if (length <= 0) return n;
    if (n) {
        FN(piece) *last = &pieces[n - 1];
        if (from < 0 ? last->from < 0 : last->from >= 0 && last->from + last->length * stride == from) {
            last->length += length;
            return n;
        }
    }
    pieces[n] = (FN(piece)){at, length, from};
    return n + 1;
}

/* Cut n columns at one tap into pieces in ascending order, zeros up to `full`; return their number.

   image, row, col: place of the first column; row_from, inner: of the tap. */
GEMM_INLINE int FN(cut_row)(const FN(images) *v, const int64_t *row_from, const int64_t *inner, int64_t image,
                            int64_t row, int64_t col, int64_t columns, int64_t full, FN(piece) *pieces)
{
    int n = 0;
    for (int64_t j = 0; j < columns;) {
        const int64_t length = GEMM_MIN(v->width - col, columns - j);
        int64_t low = GEMM_MAX(col, inner[1]), high = GEMM_MIN(col + length, inner[2]);
        if (row_from[row] < 0 || low >= high) low = high = col + length;
        n = FN(add_piece)(pieces, n, j, low - col, -1, 0);
        n = FN(add_piece)(pieces, n, j + low - col, high - low,
                          image * v->image + row_from[row] + inner[0] + low * v->stride, v->stride);
        n = FN(add_piece)(pieces, n, j + high - col, col + length - high, -1, 0);
        j += length;
        col = 0;
        if (++row == v->rows) row = 0, image++;
    }
    return FN(add_piece)(pieces, n, columns, full - columns, -1, 0);
}

/* Copy one piece for n channels; `nv` whole vectors, the last of which may be a part.

   What a last vector writes too much is overwritten by the next piece; at the end of a row it is merged. */
GEMM_INLINE void FN(copy_piece)(const FN(piece) *p, int64_t nv, int64_t stride, const REAL *from, int64_t plane,
                                int64_t n, REAL *to, int64_t to_step, int merge)
{
    const FN(ivec) keep = FN(lane_numbers)() < (INTEGER)(p->length - (nv - 1) * FN(LANES));
    for (int64_t c = 0; c < n; c++, from += plane, to += to_step)
        for (int64_t b = 0; b < nv; b++) {
            FN(vec) v = {0};
            if (stride == 1) v = FN(load)(from + b * FN(LANES));
            else if (stride == 2)
                v = FN(evens)(FN(load)(from + 2 * b * FN(LANES)), FN(load)(from + (2 * b + 1) * FN(LANES)));
            if (merge && b == nv - 1) v = FN(select)(keep, v, FN(load)(to + b * FN(LANES)));
            FN(store)(to + b * FN(LANES), v);
        }
}

/* to[(k - k0) * to_row + q - q0] = element (k, q), zeros from q1 - q0 up to `full`, full <= to_row. */
static void FN(load_images)(const FN(images) *v, int64_t k0, int64_t k1, int64_t q0, int64_t q1,
                            int64_t full, REAL *to, int64_t to_row)
{
    FN(piece) pieces[3 * GEMM_KC + 1];
    const int64_t taps = v->n_outer * v->n_inner, places = v->rows * v->width, columns = q1 - q0;
    if (q0 >= q1 || k0 >= k1) return;
    const int64_t image = q0 / places, row = (q0 - image * places) / v->width, col = (q0 - image * places) % v->width;
    const int64_t first0 = k0 / taps, rest0 = k0 % taps, first1 = k1 / taps, rest1 = k1 % taps;
    const int64_t *row_from = v->row_from, *inner = v->inner;
    for (int64_t tap = 0, outer_end = v->n_inner; tap < taps; tap++, inner += 3) {
        if (tap == outer_end) outer_end += v->n_inner, row_from += v->rows, inner = v->inner;
        /* channels of this tap among the rows, the row of the first, and the distance of their rows */
        int64_t c0, c1, first, step;
        if (v->by_tap) {
            c0 = GEMM_MAX(k0 - tap * v->channels, 0);
            c1 = GEMM_MIN(k1 - tap * v->channels, v->channels);
            first = tap * v->channels + c0, step = 1;
        } else {
            c0 = first0 + (tap < rest0);
            c1 = first1 + (tap < rest1);
            first = c0 * taps + tap, step = taps;
        }
        if (c0 >= c1) continue;
        REAL *base = to + (first - k0) * to_row;
        const int64_t to_step = step * to_row;
        int n_pieces = 1;
        if (columns == full && inner[1] <= col && col + columns <= inner[2] && row_from[row] >= 0)
            pieces[0] = (FN(piece)){0, columns, image * v->image + row_from[row] + inner[0] + col * v->stride};
        else n_pieces = FN(cut_row)(v, row_from, inner, image, row, col, columns, full, pieces);
        for (int i = 0; i < n_pieces; i++) {
            const FN(piece) *p = &pieces[i];
            const int64_t nv = gemm_ceil_div(p->length, FN(LANES)), n = c1 - c0;
            const int merge = p->at + nv * FN(LANES) > to_row;
            REAL *at = base + p->at;
            if (p->from < 0) {
                FN(copy_piece)(p, nv, 0, NULL, 0, n, at, to_step, merge);
                continue;
            }
            const REAL *from = v->data + p->from + c0 * v->plane;
            /* channels whose last vector ends before the end of the array */
            int64_t safe = v->end - from - nv * FN(LANES) * v->stride;
            if (v->stride > 2 || safe < 0) safe = 0;
            else safe = safe >= (n - 1) * v->plane ? n : safe / v->plane + 1;
            if (v->stride == 1 && nv == 1) FN(copy_piece)(p, 1, 1, from, v->plane, safe, at, to_step, merge);
            else if (v->stride == 1 && nv == 2) FN(copy_piece)(p, 2, 1, from, v->plane, safe, at, to_step, merge);
            else if (v->stride == 1) FN(copy_piece)(p, nv, 1, from, v->plane, safe, at, to_step, merge);
            else if (v->stride == 2 && nv == 2) FN(copy_piece)(p, 2, 2, from, v->plane, safe, at, to_step, merge);
            else if (v->stride == 2) FN(copy_piece)(p, nv, 2, from, v->plane, safe, at, to_step, merge);
            for (int64_t c = safe; c < n; c++)
                for (int64_t j = 0; j < p->length; j++)
                    at[c * to_step + j] = from[c * v->plane + j * v->stride];
        }
    }
}

/* to[(i - i0) * to_row + j - j0] = element (i, j), zeros up to `full` columns; spill: see copy_transposed.

   temp: LANES rows of KCS elements. */
static void FN(load_operand)(const FN(operand) *o, int64_t i0, int64_t i1, int64_t j0, int64_t j1, int64_t full,
                             REAL *to, int64_t to_row, REAL *temp)
{
    const int64_t ni = i1 - i0, nj = j1 - j0;
    if (o->images && !o->transposed) {
        FN(load_images)(o->images, i0, i1, j0, j1, full, to, to_row);
        return;
    }
    const int spill = to_row >= full + FN(LANES);
    if (o->images)
        for (int64_t j = 0; j < nj; j += FN(LANES)) {
            const int64_t w = GEMM_MIN(nj - j, FN(LANES));
            FN(load_images)(o->images, j0 + j, j0 + j + w, i0, i1, ni, temp, GEMM_KCS);
            /* temp[b][i] -> to[i][j + b] */
            FN(copy_transposed)(temp, GEMM_KCS, temp + FN(LANES) * GEMM_KCS, ni, w, to + j, to_row, spill);
        }
    else {
        const REAL *from = o->data + i0 * o->row + j0 * o->column;
        if (o->column == 1)
            for (int64_t i = 0; i < ni; i++, from += o->row) {
                REAL *row = to + i * to_row;
                int64_t j = 0;
                for (; j + FN(LANES) <= nj; j += FN(LANES)) FN(store)(row + j, FN(load)(from + j));
                for (; j < nj; j++) row[j] = from[j];
            }
        else if (o->row == 1) FN(copy_transposed)(from, o->column, o->end, ni, nj, to, to_row, spill);
        else
            for (int64_t i = 0; i < ni; i++)
                for (int64_t j = 0; j < nj; j++) to[i * to_row + j] = from[i * o->row + j * o->column];
    }
    if (full > nj)
        for (int64_t i = 0; i < ni; i++)
            for (int64_t j = nj; j < full; j++) to[i * to_row + j] = 0;
}

/* ---- results ---- */

/* The result: element (m, q) lies at m * row + (q / places) * image + (q % places) * column. */
typedef struct {
    REAL *data;
    int64_t row, image, places, column;
} FN(result);

/* What happens to a finished sum: act(sum * scale + bias + residual); NULL leaves a part out. */
typedef struct {
    const REAL *scale, *bias, *residual;    /* scale, bias: by row or column; residual: the result, or laid out so */
    int by_column, active;
    REAL slope;
} FN(epilogue);

GEMM_INLINE FN(vec) FN(scaled)(FN(vec) v, REAL scale, REAL bias) { return v * scale + ((FN(vec)){0} + bias); }

GEMM_INLINE FN(vec) FN(rectified)(FN(vec) v, REAL slope) { return FN(select)((FN(ivec))(v > 0), v, v * slope); }

/* Where the columns of a tile go: parts that lie in one image, at steps of result.column. */
typedef struct { int64_t j, length, to; } FN(part);

static int FN(cut_columns)(const FN(result) *c, int64_t q, int64_t width, FN(part) *parts)
{
    int64_t image = q / c->places, place = q - image * c->places;
    int n = 0;
    for (int64_t j = 0; j < width; n++, image++, place = 0) {
        const int64_t length = GEMM_MIN(c->places - place, width - j);
        parts[n] = (FN(part)){j, length, image * c->image + place * c->column};
        j += length;
    }
    return n;
}

/* Ask for the memory of a part of a tile, so that it is there when the tile is finished. */
GEMM_INLINE void FN(prefetch)(const REAL *to, int64_t row, int64_t n, int64_t length)
{
    for (int64_t i = 0; i < n; i++, to += row)
        for (int64_t j = 0; j < length; j += 64 / (int)sizeof(REAL)) __builtin_prefetch(to + j, 1);
}

/* Finish a tile of whole vectors that lie side by side: n rows of `tile`, at distance `row` in memory.

   along, scaled, active: constants where this is called; scale, bias: of the first row (or column), or NULL. */
GEMM_INLINE void FN(finish_rows)(const int along, const int scaled, const int active, const REAL *tile, int64_t n,
                                 REAL *to, int64_t row, int add, REAL slope, const REAL *scale, const REAL *bias,
                                 const REAL *residual)
{
    for (int64_t i = 0; i < n; i++, tile += FN(PANEL), to += row) {
        FN(vec) v[GEMM_NV];
        const REAL s = scaled && !along && scale ? scale[i] : 1, b = scaled && !along && bias ? bias[i] : 0;
#pragma GCC unroll 2
        for (int j = 0; j < GEMM_NV; j++) v[j] = FN(load)(tile + j * FN(LANES));
        if (add)
#pragma GCC unroll 2
            for (int j = 0; j < GEMM_NV; j++) v[j] += FN(load)(to + j * FN(LANES));
        if (scaled && along)
#pragma GCC unroll 2
            for (int j = 0; j < GEMM_NV; j++) {
                FN(vec) shift = {0};
                if (bias) shift = FN(load)(bias + j * FN(LANES));
                if (scale) v[j] = v[j] * FN(load)(scale + j * FN(LANES)) + shift;
                else v[j] += shift;
            }
        else if (scaled)
#pragma GCC unroll 2
            for (int j = 0; j < GEMM_NV; j++) v[j] = FN(scaled)(v[j], s, b);
        if (residual)
#pragma GCC unroll 2
            for (int j = 0; j < GEMM_NV; j++) v[j] += FN(load)(residual + i * row + j * FN(LANES));
        if (active)
#pragma GCC unroll 2
            for (int j = 0; j < GEMM_NV; j++) v[j] = FN(rectified)(v[j], slope);
#pragma GCC unroll 2
        for (int j = 0; j < GEMM_NV; j++) FN(store)(to + j * FN(LANES), v[j]);
    }
}

static __attribute__((noinline)) void FN(finish_whole)(const REAL *tile, int64_t n, REAL *to, int64_t row, int add,
                                                       const FN(epilogue) *e, const REAL *scale, const REAL *bias,
                                                       const REAL *residual)
{
    const REAL slope = e ? e->slope : 0;
    if (!scale && !bias) {
        if (e && e->active) FN(finish_rows)(0, 0, 1, tile, n, to, row, add, slope, scale, bias, residual);
        else FN(finish_rows)(0, 0, 0, tile, n, to, row, add, slope, scale, bias, residual);
    } else if (e->by_column) {
        if (e->active) FN(finish_rows)(1, 1, 1, tile, n, to, row, add, slope, scale, bias, residual);
        else FN(finish_rows)(1, 1, 0, tile, n, to, row, add, slope, scale, bias, residual);
    } else if (e->active) FN(finish_rows)(0, 1, 1, tile, n, to, row, add, slope, scale, bias, residual);
    else FN(finish_rows)(0, 1, 0, tile, n, to, row, add, slope, scale, bias, residual);
}

/* Copy parts of a tile's row together, or out to where they belong. */
GEMM_INLINE void FN(copy_parts)(const FN(part) *parts, int n_parts, REAL *side, REAL *memory, int out)
{
    for (const FN(part) *p = parts; p < parts + n_parts; p++) {
        REAL *to = out ? memory + p->to : side + p->j;
        const REAL *from = out ? side + p->j : memory + p->to;
        int64_t n = p->length;
        for (; n >= FN(LANES); n -= FN(LANES), to += FN(LANES), from += FN(LANES)) FN(store)(to, FN(load)(from));
        FN(copy_few)(to, from, n);
    }
}

/* Finish a tile whose rows are cut into parts, each of which lies side by side; see finish_whole. */
static __attribute__((noinline)) void FN(finish_cut)(const REAL *tile, int64_t n, const FN(part) *parts, int n_parts,
                                                     REAL *to, int64_t row, int add, const FN(epilogue) *e,
                                                     const REAL *scale, const REAL *bias, const REAL *residual)
{
    for (int64_t i = 0; i < n; i++, tile += FN(PANEL), to += row) {
        REAL sums[FN(PANEL)], more[FN(PANEL)];
        if (add) FN(copy_parts)(parts, n_parts, sums, to, 0);
        if (residual) FN(copy_parts)(parts, n_parts, more, (REAL *)residual + i * row, 0);
        for (int j = 0; j < FN(PANEL); j += FN(LANES)) {
            FN(vec) v = FN(load)(tile + j);
            if (add) v += FN(load)(sums + j);
            if (scale) v = FN(scaled)(v, scale[i], bias ? bias[i] : 0);
            else if (bias) v += bias[i];
            if (residual) v += FN(load)(more + j);
            if (e && e->active) v = FN(rectified)(v, e->slope);
            FN(store)(sums + j, v);
        }
        FN(copy_parts)(parts, n_parts, sums, to, 1);
    }
}

/* n elements at a distance, as a vector; at distance 0 one element in all lanes. */
GEMM_INLINE FN(vec) FN(gather)(const REAL *p, int64_t n, int64_t step)
{
    if (step == 1) return FN(load_part)(p, n);
    REAL part[FN(LANES)] = {0};
    for (int64_t l = 0; l < n; l++) part[l] = p[l * step];
    return FN(load)(part);
}

/* Finish up to a vector of one row, at steps of `column`; scale, bias: of its first column, or NULL. */
static __attribute__((noinline)) void FN(finish_part)(const REAL *sums, int64_t n, REAL *to, int64_t column, int add,
                                                      const FN(epilogue) *e, const REAL *scale, const REAL *bias,
                                                      const REAL *residual)
{
    const FN(vec) none = {0};
    FN(vec) v = FN(gather)(sums, n, 1), s = none, b = none;
    if (add) v += FN(gather)(to, n, column);
    if (scale && e->by_column) s = FN(gather)(scale, n, 1);
    else if (scale) s = none + *scale;
    if (bias && e->by_column) b = FN(gather)(bias, n, 1);
    else if (bias) b = none + *bias;
    if (scale) v = v * s + b;
    else if (bias) v += b;
    if (residual) v += FN(gather)(residual, n, column);
    if (e && e->active) v = FN(rectified)(v, e->slope);
    if (column != 1) {
        REAL part[FN(LANES)];
        FN(store)(part, v);
        for (int64_t l = 0; l < n; l++) to[l * column] = part[l];
    } else FN(store_part)(to, v, n);
}

/* Write rows [m, m + n) of a tile of sums whose first column is q, added to what is there if `add`.

   e: the epilogue, or NULL while sums are partial. */
static __attribute__((noinline)) void FN(finish)(const REAL *tile, int64_t n, const FN(part) *parts, int n_parts,
                                                 const FN(result) *c, int64_t m, int64_t q, int add,
                                                 const FN(epilogue) *e)
{
    const REAL *scale = e ? e->scale : NULL, *bias = e ? e->bias : NULL, *residual = e ? e->residual : NULL;
    const int64_t by_row = e && !e->by_column, by_column = e && e->by_column;
    if (n_parts == 1 && parts->length == FN(PANEL) && c->column == 1) {
        const int64_t at = m * c->row + parts->to, index = by_column ? q : m;
        FN(finish_whole)(tile, n, c->data + at, c->row, add, e, scale ? scale + index : NULL,
                         bias ? bias + index : NULL, residual ? residual + at : NULL);
        return;
    }
    if (c->column == 1 && !((scale || bias) && by_column)) {
        FN(finish_cut)(tile, n, parts, n_parts, c->data + m * c->row, c->row, add, e, scale ? scale + m : NULL,
                       bias ? bias + m : NULL, residual ? residual + m * c->row : NULL);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        for (const FN(part) *p = parts; p < parts + n_parts; p++)
            for (int64_t j = 0; j < p->length; j += FN(LANES)) {
                const int64_t at = (m + i) * c->row + p->to + j * c->column;
                const int64_t index = by_row * (m + i) + by_column * (q + p->j + j);
                FN(finish_part)(tile + i * FN(PANEL) + p->j + j, GEMM_MIN(p->length - j, FN(LANES)), c->data + at,
                                c->column, add, e, scale ? scale + index : NULL, bias ? bias + index : NULL,
                                residual ? residual + at : NULL);
            }
}

/* ---- the microkernel ---- */

/* What a microkernel does beside multiplying: it asks for memory that will be needed, a line at a step, and keeps B.

   next: the next tile of A as it lies, its rows next_row apart; result: where this tile goes, three lines of rows
   result_row apart; panel: where to keep B, whose rows lie b_row apart in memory. */
typedef struct {
    const REAL *next, *result;
    int64_t next_row, result_row, b_row;
    REAL *panel;
} FN(beside);

/* sum += column of A (mr rows) x row of B (nv vectors), which is kept in `panel`, if that is given.

   A number of A that is loaded for each vector anew is part of the multiply-add; one that is loaded once is an
   instruction of its own, but one load less, of which there are two in a cycle. */
GEMM_INLINE void FN(multiply_add)(const int mr, const int nv, const int row, const REAL *a, const REAL *b,
                                  REAL *panel, FN(vec) (*sum)[GEMM_NV])
{
    FN(vec) bv[GEMM_NV];
#pragma GCC unroll 2
    for (int j = 0; j < nv; j++) bv[j] = FN(load)(b + j * FN(LANES));
    if (panel)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) {
            FN(store)(panel + j * FN(LANES), bv[j]);
            /* the neighbour comes next, which no prefetcher foresees */
            __builtin_prefetch(b + (nv + j) * FN(LANES), 0, 2);
        }
    const REAL *again = a;              /* the same, which the compiler shall not know */
    __asm__("" : "+r"(again));
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++) {
        const REAL s = a[i * row];
        sum[i][0] += s * bv[0];
        if (nv > 1) sum[i][1] += (i < GEMM_ONCE ? s : again[i * row]) * bv[1];
    }
}

/* tile = A (mr rows) x B (nv vectors), over `depth`; element (i, k) of A is a[i * row + k * column].

   B is a panel or, with `keep`, memory; see FN(beside), which is used with `look`.
   mr, nv, row, column, keep and look are constants where this is called. */
GEMM_INLINE void FN(micro)(const int mr, const int nv, const int row, const int column, const int keep,
                           const int look, const REAL *a, const REAL *b, int64_t depth, REAL *tile,
                           const FN(beside) *beside)
{
    const int64_t b_row = keep ? beside->b_row : nv * FN(LANES), line = 64 / sizeof(REAL), panel_row = nv * FN(LANES);
    FN(vec) sum[GEMM_MR][GEMM_NV];
    REAL *panel = keep ? beside->panel : NULL;
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) sum[i][j] = (FN(vec)){0};
    int64_t k = 0;
    if (look) {
        const REAL *next = beside->next, *result = beside->result;
        int64_t result_row = beside->result_row;
        const int64_t asked = beside->next_row ? depth : GEMM_MIN(depth, 3 * GEMM_LOOK);    /* then nothing is left */
        for (; k + GEMM_LOOK <= asked; k += GEMM_LOOK) {
            const REAL *at = next, *to = result;
            for (int i = 0; i < mr; i++, a += column, b += b_row, panel += keep ? panel_row : 0) {
                __builtin_prefetch(at, 0, 2);
                __builtin_prefetch(to, 1);
                at += beside->next_row, to += result_row;
                FN(multiply_add)(mr, nv, row, a, b, panel, sum);
            }
            for (int i = mr; i < GEMM_LOOK; i++, a += column, b += b_row, panel += keep ? panel_row : 0)
                FN(multiply_add)(mr, nv, row, a, b, panel, sum);
            next += beside->next_row ? line : 0, result += line;
            if (k == 2 * GEMM_LOOK) result = tile, result_row = 0;
        }
    }
    for (; k < depth; k++, a += column, b += b_row, panel += keep ? panel_row : 0) {
        /* rows side by side: a tile is a line or two for each k, and what lies behind it is the next */
        if (column > 1) __builtin_prefetch(a + GEMM_AHEAD * column);
        FN(multiply_add)(mr, nv, row, a, b, panel, sum);
    }
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) FN(store)(tile + i * FN(PANEL) + j * FN(LANES), sum[i][j]);
}

typedef void (*FN(micro_kernel))(const REAL *a, const REAL *b, int64_t depth, REAL *tile, const FN(beside) *beside);

/* micro, keep_micro: rows of A at a distance of KCS; side_micro: rows side by side, ROOM for each k */
#define GEMM_KERNEL(name, mr, nv, row, column, keep, look)                                                      \
    static void FN(name##_##mr)(const REAL *a, const REAL *b, int64_t depth, REAL *tile,                        \
                                const FN(beside) *beside)                                                       \
    {                                                                                                           \
        FN(micro)(mr, nv, row, column, keep, look, a, b, depth, tile, beside);                                  \
    }
#define GEMM_MICRO(mr)                                                                                          \
    GEMM_KERNEL(micro_1, mr, 1, GEMM_KCS, 1, 0, 1)                                                              \
    GEMM_KERNEL(micro_2, mr, 2, GEMM_KCS, 1, 0, 1)                                                              \
    GEMM_KERNEL(keep_micro, mr, 2, GEMM_KCS, 1, 1, 1)                                                           \
    GEMM_KERNEL(side_micro_1, mr, 1, 1, FN(ROOM), 0, 0)                                                         \
    GEMM_KERNEL(side_micro_2, mr, 2, 1, FN(ROOM), 0, 0)
GEMM_MICRO(1) GEMM_MICRO(2) GEMM_MICRO(3) GEMM_MICRO(4) GEMM_MICRO(5) GEMM_MICRO(6)
#if GEMM_MR >= 12
GEMM_MICRO(7) GEMM_MICRO(8) GEMM_MICRO(9) GEMM_MICRO(10) GEMM_MICRO(11) GEMM_MICRO(12)
#endif
#if GEMM_MR >= 14
GEMM_MICRO(13) GEMM_MICRO(14)
#endif
#undef GEMM_MICRO
#undef GEMM_KERNEL

#define GEMM_FEW(name) FN(name##_1), FN(name##_2), FN(name##_3), FN(name##_4), FN(name##_5), FN(name##_6)
#define GEMM_MORE(name) FN(name##_7), FN(name##_8), FN(name##_9), FN(name##_10), FN(name##_11), FN(name##_12)
#if GEMM_MR >= 14
#define GEMM_ALL(name) {GEMM_FEW(name), GEMM_MORE(name), FN(name##_13), FN(name##_14)}
#elif GEMM_MR >= 12
#define GEMM_ALL(name) {GEMM_FEW(name), GEMM_MORE(name)}
#else
#define GEMM_ALL(name) {GEMM_FEW(name)}
#endif
static const FN(micro_kernel) FN(micros)[GEMM_NV][GEMM_MR] = {GEMM_ALL(micro_1), GEMM_ALL(micro_2)};
static const FN(micro_kernel) FN(keep_micros)[GEMM_MR] = GEMM_ALL(keep_micro);
static const FN(micro_kernel) FN(side_micros)[GEMM_NV][GEMM_MR] = {GEMM_ALL(side_micro_1), GEMM_ALL(side_micro_2)};
#undef GEMM_FEW
#undef GEMM_MORE
#undef GEMM_ALL

/* ---- the last columns ---- */

/* The last columns of a product, where they fill less than a quarter of a vector: sums over vectors along k. */
enum { FN(FEW) = FN(LANES) / 4 };

/* tile[i][c] = sum over k of a[i * KCS + k] * b[c * KCS + k], for n rows; what b holds is zero up to a whole vector.

   columns: a constant, 1, 2 or 4. */
GEMM_INLINE void FN(sum_few)(const int columns, const REAL *a, const REAL *b, int64_t n, int64_t depth, REAL *tile)
{
    const int rows = GEMM_MIN(FN(LANES) / columns, GEMM_MR);
    for (int64_t begin = 0; begin < n; begin += rows) {
        const int64_t first = GEMM_MAX(GEMM_MIN(begin, n - rows), 0);
        const REAL *at = a + first * GEMM_KCS;
        FN(vec) sum[FN(LANES)];
#pragma GCC unroll 16
        for (int l = 0; l < FN(LANES); l++) sum[l] = (FN(vec)){0};
        for (int64_t k = 0; k < depth; k += FN(LANES)) {
            FN(vec) bv[4];
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++) bv[c] = FN(load)(b + c * GEMM_KCS + k);
            const int whole = k + FN(LANES) <= depth;
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) {
                const REAL *p = at + i * GEMM_KCS + k;
                const FN(vec) v = whole ? FN(load)(p) : FN(load_part)(p, depth - k);
#pragma GCC unroll 4
                for (int c = 0; c < columns; c++) sum[i * columns + c] += v * bv[c];
            }
        }
        FN(transpose)(sum);
#pragma GCC unroll 4
        for (int s = FN(LANES) / 2; s; s /= 2)
#pragma GCC unroll 8
            for (int l = 0; l < s; l++) sum[l] += sum[l + s];
        REAL sums[FN(LANES)];
        FN(store)(sums, sum[0]);
        for (int64_t i = 0; i < GEMM_MIN(n, rows); i++)
            for (int c = 0; c < columns; c++) tile[(first + i) * FN(PANEL) + c] = sums[i * columns + c];
    }
}

static __attribute__((noinline)) void FN(few_columns)(const REAL *a, const REAL *b, int64_t few, int64_t n,
                                                      int64_t depth, REAL *tile)
{
    if (few == 1) FN(sum_few)(1, a, b, n, depth, tile);
    else if (few == 2) FN(sum_few)(2, a, b, n, depth, tile);
    else if (FN(FEW) >= 4) FN(sum_few)(4, a, b, n, depth, tile);
}

/* ---- a task ---- */

/* A thread's scratch begins with its range, on a line of its own. */
enum { FN(RANGE) = 128 / sizeof(REAL) };

/* Elements of scratch that one thread needs for `panels` panels of B and a few columns more. */
static inline int64_t FN(product_scratch)(int64_t panels)
{
    return GEMM_KC * ((panels + 1) * FN(PANEL) + FN(LANES)) + (GEMM_MR + FN(LANES) + 4) * GEMM_KCS + GEMM_MR * FN(PANEL)
           + 4 * FN(LANES) + FN(RANGE);
}

static inline gemm_range *FN(range_of)(REAL *scratch)
{
    return (gemm_range *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
}

static inline REAL *FN(aligned)(REAL *p)
{
    return (REAL *)(((uintptr_t)p + GEMM_BYTES - 1) & ~(uintptr_t)(GEMM_BYTES - 1));
}

/* Element (k, q) of B, if a whole panel lies there with its rows at one distance, else NULL. */
static const REAL *FN(in_place)(const FN(operand) *o, int64_t k, int64_t q, int64_t *row)
{
    const FN(images) *v = o->images;
    if (!v) {
        *row = o->row;
        return o->column == 1 ? o->data + k * o->row + q : NULL;
    }
    if (o->transposed || v->stride != 1 || v->n_outer * v->n_inner != 1) return NULL;
    const int64_t places = v->rows * v->width, image = q / places, at = (q - image * places) / v->width;
    const int64_t col = (q - image * places) % v->width, from = v->row_from[at];
    if (from < 0 || col < v->inner[1] || col + FN(PANEL) > v->inner[2]) return NULL;
    *row = v->plane;
    return v->data + image * v->image + k * v->plane + from + v->inner[0] + col;
}

/* Tiles `run` of `rows` rows and columns [q0, q1) of the result, summed over k in [d0, d1).

   few: number of columns at the end, at most FEW, whose sums are taken one by one; accumulate: add to what the result
   holds; scratch: product_scratch(panels of the columns) elements. */
static void FN(product)(const FN(operand) *a, const FN(operand) *b, const FN(result) *c, int64_t d0, int64_t d1,
                        int64_t rows, gemm_run run, int64_t q0, int64_t q1, int64_t few, const FN(epilogue) *e,
                        int accumulate, REAL *scratch)
{
    const int64_t end = q1 - few, n_panels = gemm_ceil_div(q1 - q0, FN(PANEL));
    const int plain = !a->images && a->column == 1;
    REAL *a_tile = FN(aligned)(scratch);
    REAL *temp = a_tile + GEMM_MR * GEMM_KCS;
    REAL *last = temp + FN(LANES) * GEMM_KCS, *last_panel = last + 4 * GEMM_KCS;
    REAL *tile = last_panel + FN(LANES) * GEMM_KC;
    REAL *panels = tile + GEMM_MR * FN(PANEL);          /* last: a vector may be merged behind its end */
    FN(part) cut[FN(PANEL)], uncut[GEMM_PANELS + 1];    /* where a panel goes; those that are not cut */

    for (int64_t p = 0; p < n_panels; p++) {
        const int64_t q = q0 + p * FN(PANEL), width = GEMM_MIN(FN(PANEL), q1 - q);
        const int n_parts = FN(cut_columns)(c, q, width, cut);
        uncut[p] = n_parts == 1 ? cut[0] : (FN(part)){0};
    }
    for (int64_t k0 = d0; k0 < d1 || k0 == d0; k0 += GEMM_KC) {
        const int64_t k1 = GEMM_MIN(k0 + GEMM_KC, d1), kc = k1 - k0;
        const int is_last = k1 == d1, add = accumulate || k0 > d0;
        const int64_t n_tiles = k0 == d0 ? run.tiles : run.first + run.n;   /* the next may be this thread's, or is */
        if (few && !run.held) {
            FN(load_operand)(b, k0, k1, end, q1, FN(LANES), last_panel, FN(LANES), temp);
            FN(copy_transposed)(last_panel, FN(LANES), last_panel + kc * FN(LANES), GEMM_MIN(4, FN(LANES)), kc, last,
                                GEMM_KCS, 1);
        }
        for (int64_t t = run.first; t < run.first + run.n || (k0 == d0 && gemm_more(&run)); t++) {
            const int64_t m = rows * t / run.tiles, n = rows * (t + 1) / run.tiles - m;
            const int load = t == run.first && !run.held;
            FN(load_operand)(a, m, m + n, k0, k1, kc, a_tile, GEMM_KCS, temp);
            for (int64_t p = 0; p < n_panels; p++) {
                const int64_t q = q0 + p * FN(PANEL), width = GEMM_MIN(FN(PANEL), q1 - q);
                const int64_t summed = GEMM_MIN(FN(PANEL), end - q);      /* the others are the few */
                REAL *panel = panels + p * GEMM_KC * FN(PANEL);
                const FN(part) *parts = uncut[p].length ? &uncut[p] : cut;
                const int n_parts = parts == cut ? FN(cut_columns)(c, q, width, cut) : 1;
                FN(beside) beside = {a_tile, tile, 0, 0, 0, panel};
                if (p == 0 && plain && (t + 1 < n_tiles || k1 < d1)) {
                    const int64_t first = rows * run.first / run.tiles;
                    beside.next = a->data + (t + 1 < n_tiles ? (m + n) * a->row + k0 : first * a->row + k1);
                    beside.next_row = a->row;
                }
                if (c->column == 1 && n_parts == 1 && summed > 0 && kc >= 3 * GEMM_LOOK)
                    beside.result = c->data + m * c->row + parts->to, beside.result_row = c->row;
                else
                    for (int i = 0; i < n_parts && c->column == 1; i++)
                        FN(prefetch)(c->data + m * c->row + parts[i].to, c->row, n, parts[i].length);
                const REAL *from = !load || summed < FN(PANEL) ? NULL : FN(in_place)(b, k0, q, &beside.b_row);
                if (from) FN(keep_micros)[n - 1](a_tile, from, kc, tile, &beside);
                else if (summed > 0) {
                    const int64_t full = summed > FN(LANES) ? FN(PANEL) : FN(LANES);
                    if (load) FN(load_operand)(b, k0, k1, q, q + summed, full, panel, full, temp);
                    FN(micros)[summed > FN(LANES)][n - 1](a_tile, panel, kc, tile, &beside);
                }
                if (summed < width) FN(few_columns)(a_tile, last, few, n, kc, tile + summed);
                if (e && e->residual) {
                    /* the residual, which the result may replace, goes into the first sum, then that is the residual */
                    const FN(epilogue) part = {e->scale, is_last ? e->bias : NULL, k0 > d0 ? c->data : e->residual,
                                               e->by_column, is_last && e->active, e->slope};
                    FN(finish)(tile, n, parts, n_parts, c, m, q, 0, &part);
                } else FN(finish)(tile, n, parts, n_parts, c, m, q, add, is_last ? e : NULL);
            }
        }
    }
}

/* The whole product of `rows` x `columns`, for each of `groups` whose operands lie at a distance, on n_threads.

   scratch: n_threads * product_scratch(PANELS) elements. */
typedef struct { int64_t a, b, c, e; } FN(distance);

static void FN(multiply)(const FN(operand) *a, const FN(operand) *b, const FN(result) *c, int64_t rows,
                         int64_t columns, int64_t depth, int64_t groups, const FN(distance) *step,
                         const FN(epilogue) *e, int accumulate, REAL *scratch, int n_threads)
{
    if (rows <= 0 || columns <= 0) return;
    const int64_t rest = columns % FN(LANES), few = rest <= FN(FEW) ? rest : 0, most = columns - few;
    const int64_t n_panels = GEMM_MAX(gemm_ceil_div(most, FN(PANEL)), 1);
    const int64_t panels = gemm_width(rows, n_panels, groups, n_threads), width = panels * FN(PANEL);
    const int64_t n_blocks = gemm_ceil_div(n_panels, panels), tiles = gemm_ceil_div(rows, GEMM_MR);
    const int64_t n_all = groups * n_blocks * tiles, size = FN(product_scratch)(GEMM_PANELS);
    const int64_t cycles = panels * GEMM_MIN(GEMM_MAX(depth, 1), GEMM_KC) * GEMM_MR;
    const int64_t chunk = GEMM_CHUNK / cycles + 1;
    for (int t = 0; t < n_threads; t++)
        *FN(range_of)(scratch + t * size) = gemm_range_of(n_all * t / n_threads, n_all * (t + 1) / n_threads);
#pragma omp parallel num_threads(n_threads)
    {
        REAL *own = scratch + GEMM_THREAD() * size;
        gemm_range *mine = FN(range_of)(own);
        int64_t first, n, held = -1;
        for (int victim = 0; victim < n_threads;) {
            n = gemm_take(mine, chunk, tiles, &first);
            if (!n) {
                /* a thread that has not begun may never do so */
                gemm_range *other = FN(range_of)(scratch + victim * size);
                const int64_t begin = gemm_begin(__atomic_load_n(other, __ATOMIC_RELAXED));
                const int idle = begin == n_all * victim / n_threads;
                if (!gemm_steal(mine, other, idle ? 1 : GEMM_WORTH)) victim++;
                continue;
            }
            const int64_t block = first / tiles, group = block / n_blocks, q = block % n_blocks * width;
            FN(images) view;
            FN(operand) a_group = *a, b_group = *b;
            FN(result) c_group = *c;
            FN(epilogue) e_group = *e;
            a_group.data += group * step->a;
            if (b->images) {
                view = *b->images;
                view.data += group * step->b;
                b_group.images = &view;
            }
            c_group.data += group * step->c;
            if (e->scale) e_group.scale += group * step->e;
            if (e->bias) e_group.bias += group * step->e;
            if (e->residual) e_group.residual += group * step->c;
            const int is_last = q + width >= most;
            const gemm_run run = {first % tiles, n, chunk, tiles, mine, block == held};
            FN(product)(&a_group, &b_group, &c_group, 0, depth, rows, run, q, is_last ? columns : q + width,
                        is_last ? few : 0, &e_group, accumulate, own + FN(RANGE));
            held = depth <= GEMM_KC ? block : -1;
        }
    }
}

/* `rows` (a constant, at most 4) x n <= 4 sums of products of rows of a and b, which lie side by side. */
GEMM_INLINE void FN(dots)(const int rows, const REAL *a, const REAL *b, int64_t n, int64_t depth, double *sums)
{
    FN(vec) sum[4][4];
    const REAL *at[4];
    for (int j = 0; j < 4; j++) at[j] = b + GEMM_MIN(j, n - 1) * depth;
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) sum[i][j] = (FN(vec)){0};
    int64_t k = 0;
    for (; k + FN(LANES) <= depth; k += FN(LANES))
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            const FN(vec) v = FN(load)(a + i * depth + k);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) sum[i][j] += v * FN(load)(at[j] + k);
        }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 4; j++) {
            double total = 0;
            for (int l = 0; l < FN(LANES); l++) total += sum[i][j][l];
            for (int64_t rest = k; rest < depth; rest++) total += (double)a[i * depth + rest] * at[j][rest];
            sums[4 * i + j] = total;
        }
}

/* C (rows, columns) (+)= A (rows, depth) B' (depth, columns), rows <= 4, then the epilogue by column.

   Each row of B is read once, as fast as memory gives it. */
static void FN(few_rows)(const REAL *a, const REAL *b, REAL *c, int64_t rows, int64_t columns, int64_t depth,
                         const FN(epilogue) *e, int accumulate, int n_threads)
{
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t q = 0; q < columns; q += 4) {
        const int64_t n = GEMM_MIN(columns - q, 4);
        double sums[16];
        if (rows == 1) FN(dots)(1, a, b + q * depth, n, depth, sums);
        else if (rows == 2) FN(dots)(2, a, b + q * depth, n, depth, sums);
        else if (rows == 3) FN(dots)(3, a, b + q * depth, n, depth, sums);
        else FN(dots)(4, a, b + q * depth, n, depth, sums);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < n; j++) {
                REAL *to = c + i * columns + q + j, v = (REAL)sums[4 * i + j];
                if (accumulate) v += *to;
                if (e->scale) v *= e->scale[q + j];
                if (e->bias) v += e->bias[q + j];
                *to = e->active && !(v > 0) ? v * e->slope : v;
            }
    }
}

/* C (rows, columns) (+)= A (rows, depth) B (depth, columns), then the epilogue; each given with its two strides. */
static void FN(gemm)(const REAL *a, int64_t a_row, int64_t a_column, const REAL *b, int64_t b_row, int64_t b_column,
                     REAL *c, int64_t c_row, int64_t c_column, int64_t rows, int64_t columns, int64_t depth,
                     const REAL *scale, const REAL *bias, int by_column, int active, REAL slope, int accumulate,
                     REAL *scratch, int n_threads)
{
    const FN(operand) left = {NULL, 0, a, a + rows * depth, a_row, a_column};
    const FN(operand) right = {NULL, 0, b, b + depth * columns, b_row, b_column};
    const FN(result) result = {c, c_row, 0, columns, c_column};
    const FN(epilogue) e = {scale, bias, NULL, by_column, active, slope};
    const FN(distance) none = {0};
    if (rows <= 4 && by_column && a_column == 1 && b_row == 1 && a_row == depth && b_column == depth) {
        FN(few_rows)(a, b, c, rows, columns, depth, &e, accumulate, n_threads);
        return;
    }
    FN(multiply)(&left, &right, &result, rows, columns, depth, 1, &none, &e, accumulate, scratch, n_threads);
}
