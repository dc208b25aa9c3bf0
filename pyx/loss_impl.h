/* The part of loss.h that is compiled for float and for double. */

/* Sum of max(x, 0) - x * target + log(1 + exp(-abs(x))) over the places that count, and their number. */
static void FN(cross_entropy_block)(
    const REAL *x, const REAL *target, ptrdiff_t n, int has_ignore, REAL ignore, double *sum, double *counted)
{
    double lane[LANES] = {0}, count[LANES] = {0};
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        REAL v[LANES], t[LANES];
        const ptrdiff_t m = n - i < LANES ? n - i : LANES;
        if (m < LANES) EACH_LANE(l) v[l] = 0, t[l] = has_ignore ? ignore : 0;
        memcpy(v, x + i, (size_t)m * sizeof(REAL));
        memcpy(t, target + i, (size_t)m * sizeof(REAL));
        EACH_LANE(l) {
            const REAL smooth = FN(vm_log1p_unit)(FN(vm_exp)(-(REAL)__builtin_fabs(v[l])));
            const double kept = has_ignore & (FN(vm_cut)(t[l]) == ignore) ? 0 : l < m ? 1 : 0;
            const double value = (double)(v[l] > 0 ? v[l] : 0) - (double)v[l] * t[l] + smooth;
            lane[l] += kept != 0 ? value : 0;
            count[l] += kept;
        }
    }
    *sum = lanes_total(lane);
    *counted = lanes_total(count);
}

/* dx = (sigmoid(x) - target) * scale, 0 at ignored places. */
static void FN(cross_entropy_back)(
    const REAL *x, const REAL *target, ptrdiff_t n, int has_ignore, REAL ignore, REAL scale, REAL *dx)
{
    VM_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL value = (FN(vm_logistic)(x[i]) - target[i]) * scale;
        dx[i] = has_ignore & (FN(vm_cut)(target[i]) == ignore) ? 0 : value;
    }
}

/* Sum of -row * log(max(prob, floor)) over the classes of one place. */
static double FN(infogain_place)(const REAL *prob, ptrdiff_t classes, ptrdiff_t stride, const REAL *row, double floor)
{
    double lane[LANES] = {0};
    for (ptrdiff_t c = 0; c < classes; c += LANES) {
        double p[LANES] = {0}, gain[LANES] = {0};
        const ptrdiff_t m = classes - c < LANES ? classes - c : LANES;
        for (ptrdiff_t l = 0; l < m; l++) p[l] = prob[(c + l) * stride], gain[l] = row[c + l];
        EACH_LANE(l) lane[l] -= gain[l] * vm_log_double(p[l] > floor ? p[l] : floor);
    }
    return lanes_total(lane);
}

/* Sum of max(0, 1 + s * x), or of its square, over the classes of one item; s is -1 at the label, else 1. */
static double FN(hinge_item)(const REAL *x, ptrdiff_t classes, ptrdiff_t label, int squared)
{
    double lane[LANES] = {0};
    for (ptrdiff_t c = 0; c < classes; c += LANES) {
        /* what is left over counts nothing: its margin is 0 */
        double margin[LANES] = {0};
        const ptrdiff_t m = classes - c < LANES ? classes - c : LANES;
        for (ptrdiff_t l = 0; l < m; l++) margin[l] = 1 + (double)x[c + l];
        if (label >= c && label < c + m) margin[label - c] = 1 - (double)x[label];
        EACH_LANE(l) {
            const double positive = margin[l] > 0 ? margin[l] : 0;
            lane[l] += squared ? positive * positive : positive;
        }
    }
    return lanes_total(lane);
}
