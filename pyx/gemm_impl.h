/* The part of gemm.h that is compiled for float and for double. */

typedef REAL FN(vec) __attribute__((vector_size(GEMM_BYTES), aligned(sizeof(REAL)), may_alias));

enum {
    FN(LANES) = GEMM_BYTES / sizeof(REAL),
    FN(PANEL) = GEMM_NV * FN(LANES),              /* columns of a panel */
    FN(BLOCK) = GEMM_PANELS * FN(PANEL)           /* columns of a task */
};

/* One operand whose element (k, q) is data[row[k] + column[q % places] + (q / places) * image]. */
typedef struct {
    const REAL *data;
    const int64_t *row;         /* offset of k; NULL: k * row_stride */
    const int64_t *column;      /* offset of a place; NULL: place * column_stride */
    int64_t row_stride, column_stride, image;
} FN(operand);

/* The result: element (m, q) is data[m * row + (q % places) * column + (q / places) * image]. */
typedef struct {
    REAL *data;
    int64_t row, column, image;
} FN(result);

/* Elements of scratch that one thread needs. */
static inline int64_t FN(gemm_scratch)(void)
{
    return (int64_t)GEMM_KC * FN(BLOCK) + GEMM_KC * GEMM_MR + GEMM_MR * FN(PANEL) + 3 * FN(LANES);
}

static inline REAL *FN(aligned)(REAL *p)
{
    return (REAL *)(((uintptr_t)p + GEMM_BYTES - 1) & ~(uintptr_t)(GEMM_BYTES - 1));
}

/* tile (+)= A (MR rows) x B (panel of nv vectors), over `depth`; nv and unit are constants where called. */
static inline __attribute__((always_inline)) void FN(micro)(
    const int nv, const REAL *const *rows, const int64_t step, int64_t depth,
    const REAL *b, REAL *c, int64_t c_row, int accumulate)
{
    FN(vec) sum[GEMM_MR][GEMM_NV];
#pragma GCC unroll 8
    for (int i = 0; i < GEMM_MR; i++)
#pragma GCC unroll 3
        for (int j = 0; j < nv; j++) sum[i][j] = (FN(vec)){0};
    const REAL *a[GEMM_MR];
#pragma GCC unroll 8
    for (int i = 0; i < GEMM_MR; i++) a[i] = rows[i];
    for (int64_t k = 0; k < depth; k++) {
        FN(vec) bv[GEMM_NV];
#pragma GCC unroll 3
        for (int j = 0; j < nv; j++) bv[j] = ((const FN(vec) *)b)[j];
        b += nv * FN(LANES);
#pragma GCC unroll 8
        for (int i = 0; i < GEMM_MR; i++) {
            const REAL s = a[i][k * step];
#pragma GCC unroll 3
            for (int j = 0; j < nv; j++) sum[i][j] += s * bv[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < GEMM_MR; i++) {
        FN(vec) *row = (FN(vec) *)(c + i * c_row);
#pragma GCC unroll 3
        for (int j = 0; j < nv; j++) {
            if (accumulate) sum[i][j] += row[j];
            row[j] = sum[i][j];
        }
    }
}

static void FN(micro_any)(int nv, const REAL *const *rows, int64_t step, int64_t depth,
                          const REAL *b, REAL *c, int64_t c_row, int accumulate)
{
    if (step == 1) {
        if (nv == 3) FN(micro)(3, rows, 1, depth, b, c, c_row, accumulate);
        else if (nv == 2) FN(micro)(2, rows, 1, depth, b, c, c_row, accumulate);
        else FN(micro)(1, rows, 1, depth, b, c, c_row, accumulate);
    } else {
        if (nv == 3) FN(micro)(3, rows, GEMM_MR, depth, b, c, c_row, accumulate);
        else if (nv == 2) FN(micro)(2, rows, GEMM_MR, depth, b, c, c_row, accumulate);
        else FN(micro)(1, rows, GEMM_MR, depth, b, c, c_row, accumulate);
    }
}

/* Copy depth [k0, k1) of `width` columns from q0 on into a panel of nv vectors, zero-padded. */
static void FN(pack)(const FN(operand) *b, int64_t places, int64_t k0, int64_t k1, int64_t q0, int width,
                     int nv, REAL *panel)
{
    int64_t at[FN(PANEL)];
    int run = 1;                /* the columns lie side by side */
    for (int j = 0; j < width; j++) {
        const int64_t q = q0 + j, image = q / places, place = q - image * places;
        at[j] = image * b->image + (b->column ? b->column[place] : place * b->column_stride);
        run &= at[j] == at[0] + j;
    }
    const int full = nv * FN(LANES);
    for (int64_t k = k0; k < k1; k++) {
        const REAL *from = b->data + (b->row ? b->row[k] : k * b->row_stride);
        if (run && width == full) memcpy(panel, from + at[0], full * sizeof(REAL));
        else {
            if (run) for (int j = 0; j < width; j++) panel[j] = from[at[0] + j];
            else for (int j = 0; j < width; j++) panel[j] = from[at[j]];
            for (int j = width; j < full; j++) panel[j] = 0;
        }
        panel += full;
    }
}

/* Add or write `rows` x `width` of a tile to columns q0.. of the result. */
static void FN(unload)(const REAL *tile, int n_rows, int width, const FN(result) *c, int64_t places,
                       int64_t m0, int64_t q0, int accumulate)
{
    for (int j = 0; j < width; j++) {
        const int64_t q = q0 + j, image = q / places, place = q - image * places;
        REAL *to = c->data + m0 * c->row + place * c->column + image * c->image;
        for (int i = 0; i < n_rows; i++, to += c->row)
            *to = accumulate ? *to + tile[i * FN(PANEL) + j] : tile[i * FN(PANEL) + j];
    }
}

/* Rows [m0, m1) and columns [q0, q1) of the result, q1 - q0 <= BLOCK.

   a          element (m, k) is a[m * a_row + k * a_column]
   b          element (k, q): see operand; b_rows and b_columns are the tables or NULL
   c          element (m, q): see result
   bias       added to each row, or NULL
   accumulate add to what the result holds
   scratch    gemm_scratch() elements */
static void FN(product)(const REAL *a, int64_t a_row, int64_t a_column, int64_t depth,
                        const REAL *b_data, const int64_t *b_rows, const int64_t *b_columns,
                        int64_t b_row, int64_t b_column, int64_t b_image, int64_t places,
                        REAL *c_data, int64_t c_row, int64_t c_column, int64_t c_image,
                        int64_t m0, int64_t m1, int64_t q0, int64_t q1,
                        const REAL *bias, int accumulate, REAL *scratch)
{
    const FN(operand) operand = {b_data, b_rows, b_columns, b_row, b_column, b_image}, *b = &operand;
    const FN(result) result = {c_data, c_row, c_column, c_image}, *c = &result;
    REAL *panels = FN(aligned)(scratch);
    REAL *a_panel = panels + (int64_t)GEMM_KC * FN(BLOCK);
    REAL *tile = FN(aligned)(a_panel + GEMM_KC * GEMM_MR);

    for (int64_t k0 = 0; k0 < depth || k0 == 0; k0 += GEMM_KC) {
        const int64_t k1 = k0 + GEMM_KC < depth ? k0 + GEMM_KC : depth, kc = k1 - k0;
        const int add = accumulate || k0 > 0;
        for (int64_t q = q0, p = 0; q < q1; q += FN(PANEL), p++) {
            const int width = q1 - q < FN(PANEL) ? (int)(q1 - q) : FN(PANEL);
            FN(pack)(b, places, k0, k1, q, width, (width + FN(LANES) - 1) / FN(LANES),
                     panels + p * GEMM_KC * FN(PANEL));
        }
        for (int64_t m = m0; m < m1; m += GEMM_MR) {
            const int n_rows = m1 - m < GEMM_MR ? (int)(m1 - m) : GEMM_MR;
            const REAL *rows[GEMM_MR];
            for (int i = 0; i < GEMM_MR; i++) {     /* rows that do not exist repeat the last one */
                const REAL *row = a + (m + (i < n_rows ? i : n_rows - 1)) * a_row + k0 * a_column;
                if (a_column == 1) rows[i] = row;
                else {
                    for (int64_t k = 0; k < kc; k++) a_panel[k * GEMM_MR + i] = row[k * a_column];
                    rows[i] = a_panel + i;
                }
            }
            for (int64_t q = q0, p = 0; q < q1; q += FN(PANEL), p++) {
                const int width = q1 - q < FN(PANEL) ? (int)(q1 - q) : FN(PANEL);
                const int nv = (width + FN(LANES) - 1) / FN(LANES);
                const int64_t image = q / places, place = q - image * places;
                const REAL *panel = panels + p * GEMM_KC * FN(PANEL);
                const int step = a_column == 1 ? 1 : GEMM_MR;
                const int whole = n_rows == GEMM_MR && width == nv * FN(LANES) && c->column == 1
                                  && place + width <= places;
                REAL *to = whole ? c->data + m * c->row + place + image * c->image : tile;
                const int64_t to_row = whole ? c->row : FN(PANEL);
                FN(micro_any)(nv, rows, step, kc, panel, to, to_row, whole && add);
                if (bias && k0 == 0)
                    for (int i = 0; i < n_rows; i++)
                        for (int j = 0; j < width; j++) to[i * to_row + j] += bias[m + i];
                if (!whole) FN(unload)(tile, n_rows, width, c, places, m, q, add);
            }
        }
    }
}
