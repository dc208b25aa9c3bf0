/* The part of softmax.h that is compiled for float and for double.  An output may be the input of the same shape. */

VM_INLINE REAL FN(larger)(REAL a, REAL b) { return b > a ? b : a; }

static REAL FN(largest_of_row)(const REAL *x, ptrdiff_t n)
{
    REAL lane[LANES];
    EACH_LANE(l) lane[l] = x[0];
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        EACH_LANE(l) lane[l] = FN(larger)(lane[l], x[i + l]);
    for (; i < n; i++) lane[0] = FN(larger)(lane[0], x[i]);
    REAL largest = lane[0];
    for (int l = 1; l < LANES; l++) largest = FN(larger)(largest, lane[l]);
    return largest;
}

static void FN(softmax_row)(const REAL *x, ptrdiff_t classes, REAL *y)
{
    const REAL largest = FN(largest_of_row)(x, classes);
    double lane[LANES] = {0};
    VM_INDEPENDENT
    for (ptrdiff_t c = 0; c < classes; c++) y[c] = FN(vm_exp)(x[c] - largest);
    const ptrdiff_t whole = classes - classes % LANES;
    for (ptrdiff_t c = 0; c < whole; c += LANES)
        EACH_LANE(l) lane[l] += y[c + l];
    for (ptrdiff_t c = whole; c < classes; c++) lane[c - whole] += y[c];
    const double factor = 1 / lanes_total(lane);
    for (ptrdiff_t c = 0; c < classes; c++) y[c] = (REAL)(y[c] * factor);
}

static void FN(softmax_block)(const REAL *x, ptrdiff_t classes, ptrdiff_t stride, ptrdiff_t n, REAL *y)
{
    if (stride == 1) {
        FN(softmax_row)(x, classes, y);
        return;
    }
    REAL largest[SOFTMAX_WIDTH];
    double total[SOFTMAX_WIDTH];
    for (ptrdiff_t i = 0; i < n; i++) largest[i] = x[i], total[i] = 0;
    for (ptrdiff_t c = 1; c < classes; c++)
        for (ptrdiff_t i = 0; i < n; i++) largest[i] = FN(larger)(largest[i], x[c * stride + i]);
    for (ptrdiff_t c = 0; c < classes; c++) {
        VM_INDEPENDENT
        for (ptrdiff_t i = 0; i < n; i++) {
            const REAL e = FN(vm_exp)(x[c * stride + i] - largest[i]);
            y[c * stride + i] = e;
            total[i] += e;
        }
    }
    for (ptrdiff_t i = 0; i < n; i++) total[i] = 1 / total[i];
    for (ptrdiff_t c = 0; c < classes; c++) {
        VM_INDEPENDENT
        for (ptrdiff_t i = 0; i < n; i++) y[c * stride + i] = (REAL)(y[c * stride + i] * total[i]);
    }
}

static void FN(softmax_back_block)(
    const REAL *y, const REAL *dy, ptrdiff_t classes, ptrdiff_t stride, ptrdiff_t n, REAL *dx)
{
    double dot[SOFTMAX_WIDTH] = {0};
    if (stride == 1) {
        const ptrdiff_t whole = classes - classes % LANES;
        for (ptrdiff_t c = 0; c < whole; c += LANES)
            EACH_LANE(l) dot[l] += (double)dy[c + l] * y[c + l];
        for (ptrdiff_t c = whole; c < classes; c++) dot[c - whole] += (double)dy[c] * y[c];
        const double sum = lanes_total(dot);
        VM_INDEPENDENT
        for (ptrdiff_t c = 0; c < classes; c++) dx[c] = (REAL)((dy[c] - sum) * y[c]);
        return;
    }
    for (ptrdiff_t c = 0; c < classes; c++)
        for (ptrdiff_t i = 0; i < n; i++) dot[i] += (double)dy[c * stride + i] * y[c * stride + i];
    for (ptrdiff_t c = 0; c < classes; c++) {
        VM_INDEPENDENT
        for (ptrdiff_t i = 0; i < n; i++)
            dx[c * stride + i] = (REAL)((dy[c * stride + i] - dot[i]) * y[c * stride + i]);
    }
}

VM_INLINE int FN(is_ignored)(REAL label, int has_ignore, long ignore)
{
    return has_ignore && FN(vm_cut)(label) == (REAL)ignore;
}

/* Number of labels that are neither a class nor to be ignored. */
static ptrdiff_t FN(count_bad_labels)(const REAL *label, ptrdiff_t n, REAL classes, int has_ignore, long ignore)
{
    INTEGER bad = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        /* cutting keeps (-1, 0] at 0; comparing before cutting lets NaN and huge numbers fail */
        const int is_class = (label[i] > -1) & (label[i] < classes);
        bad += !(is_class | FN(is_ignored)(label[i], has_ignore, ignore));
    }
    return (ptrdiff_t)bad;
}

/* Sum of -log(max(prob[label], floor)) over some places, the first of them number `at`, and how many count. */
static void FN(loss_block)(
    const REAL *prob, const REAL *label, ptrdiff_t classes, ptrdiff_t stride, ptrdiff_t at, ptrdiff_t n, int has_ignore,
    long ignore, double *sum, double *counted)
{
    double lane[LANES] = {0};
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        double p[LANES];
        EACH_LANE(l) {
            p[l] = 1;
            if (i + l < n && !FN(is_ignored)(label[at + i + l], has_ignore, ignore)) {
                const ptrdiff_t place = at + i + l, c = (ptrdiff_t)label[place];
                p[l] = prob[(place / stride * classes + c) * stride + place % stride];
                count++;
            }
        }
        EACH_LANE(l) lane[l] -= vm_log_double(p[l] < FLT_MIN ? FLT_MIN : p[l]);
    }
    *sum = lanes_total(lane);
    *counted = (double)count;
}

/* dx = (prob - 1 at the label) * scale, 0 at ignored places; `label` is that of the first place. */
static void FN(loss_back_block)(
    const REAL *prob, const REAL *label, ptrdiff_t classes, ptrdiff_t stride, ptrdiff_t n, int has_ignore, long ignore,
    REAL scale, REAL *dx)
{
    REAL at_label[SOFTMAX_WIDTH];
    INTEGER kept[SOFTMAX_WIDTH];
    int all = 1;
    for (ptrdiff_t i = 0; i < n; i++) {
        kept[i] = -!FN(is_ignored)(label[i], has_ignore, ignore);
        all &= kept[i] != 0;
        at_label[i] = kept[i] ? (prob[(ptrdiff_t)label[i] * stride + i] - 1) * scale : 0;
    }
    if (stride == 1) {
        VM_INDEPENDENT
        for (ptrdiff_t c = 0; c < classes; c++) {
            const REAL value = prob[c] * scale;
            dx[c] = all ? value : 0;
        }
    } else
        for (ptrdiff_t c = 0; c < classes; c++) {
            VM_INDEPENDENT
            for (ptrdiff_t i = 0; i < n; i++) {
                const REAL value = prob[c * stride + i] * scale;
                dx[c * stride + i] = kept[i] ? value : 0;
            }
        }
    for (ptrdiff_t i = 0; i < n; i++)
        if (kept[i]) dx[(ptrdiff_t)label[i] * stride + i] = at_label[i];
}

/* Count the hits among some places of one item: fewer than top_k other classes have a score as large as that of the
   label, or larger.  Hits and places are counted per class, too, unless there is no array for it. */
static void FN(accuracy_block)(
    const REAL *x, const REAL *label, ptrdiff_t classes, ptrdiff_t stride, ptrdiff_t n, int has_ignore, long ignore,
    ptrdiff_t top_k, double *hits, double *counted, double *class_hits, double *class_counts)
{
    REAL score[SOFTMAX_WIDTH];
    INTEGER better[SOFTMAX_WIDTH];
    for (ptrdiff_t i = 0; i < n; i++) {
        const int ignored = FN(is_ignored)(label[i], has_ignore, ignore);
        score[i] = ignored ? 0 : x[(ptrdiff_t)label[i] * stride + i];
        better[i] = -(score[i] == score[i]);    /* the label itself will be found, too */
    }
    if (stride == 1) {
        INTEGER found = 0;
        for (ptrdiff_t c = 0; c < classes; c++) found += x[c] >= score[0];
        better[0] += found;
    } else
        for (ptrdiff_t c = 0; c < classes; c++)
            for (ptrdiff_t i = 0; i < n; i++) better[i] += x[c * stride + i] >= score[i];
    double hit_sum = 0, count = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        if (FN(is_ignored)(label[i], has_ignore, ignore)) continue;
        const ptrdiff_t c = (ptrdiff_t)label[i];
        const int hit = better[i] < top_k;
        hit_sum += hit;
        count += 1;
        /* whole numbers: no order of adding shows */
        if (class_hits && hit) {
            _Pragma("omp atomic")
            class_hits[c] += 1;
        }
        if (class_counts) {
            _Pragma("omp atomic")
            class_counts[c] += 1;
        }
    }
    *hits = hit_sum;
    *counted = count;
}

/* What scores are compared by: what is not a number counts as the largest, as in NumPy. */
VM_INLINE REAL FN(rank)(REAL score) { return score == score ? score : (REAL)INFINITY; }

/* The classes and scores of the largest, of equal ones of the later class. */
static void FN(arg_max_block)(
    const REAL *x, ptrdiff_t classes, ptrdiff_t stride, ptrdiff_t n, REAL *index, REAL *value)
{
    REAL best[SOFTMAX_WIDTH], at[SOFTMAX_WIDTH];
    if (stride == 1) {
        REAL lane[LANES];
        EACH_LANE(l) lane[l] = -(REAL)INFINITY;
        ptrdiff_t c = 0;
        for (; c + LANES <= classes; c += LANES)
            EACH_LANE(l) lane[l] = FN(larger)(lane[l], FN(rank)(x[c + l]));
        for (; c < classes; c++) lane[0] = FN(larger)(lane[0], FN(rank)(x[c]));
        for (int l = 1; l < LANES; l++) lane[0] = FN(larger)(lane[0], lane[l]);
        for (c = classes - 1; FN(rank)(x[c]) != lane[0];) c--;
        at[0] = (REAL)c;
    } else {
        for (ptrdiff_t i = 0; i < n; i++) best[i] = -(REAL)INFINITY, at[i] = 0;
        for (ptrdiff_t c = 0; c < classes; c++)
            for (ptrdiff_t i = 0; i < n; i++) {
                const REAL score = FN(rank)(x[c * stride + i]), old = at[i];
                at[i] = score >= best[i] ? (REAL)c : old;
                best[i] = FN(larger)(best[i], score);
            }
    }
    for (ptrdiff_t i = 0; index && i < n; i++) index[i] = at[i];
    for (ptrdiff_t i = 0; value && i < n; i++) value[i] = x[(ptrdiff_t)at[i] * stride + i];
}
