/* The part of lrn.h that is compiled for float and for double. */

/* y = x * scale^-beta. */
static void FN(lrn_divide)(
    const REAL *restrict x, const REAL *restrict scale, ptrdiff_t n, double beta, REAL *restrict y)
{
    if (beta == 0.75)
        for (ptrdiff_t i = 0; i < n; i++) {
            const REAL root = FN(lrn_root)(scale[i]);
            y[i] = x[i] / (root * FN(lrn_root)(root));
        }
    else if (floor(beta) == beta)
        for (ptrdiff_t i = 0; i < n; i++) y[i] = (REAL)(x[i] * pow(scale[i], -beta));
    else
        for (ptrdiff_t i = 0; i < n; i++) y[i] = (REAL)(x[i] * vm_exp_double(-beta * vm_log_double(scale[i])));
}
