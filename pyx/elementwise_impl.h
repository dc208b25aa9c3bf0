/* The part of elementwise.h that is compiled for float and for double. */

static void FN(sigmoid_map)(const REAL *x, REAL *y, ptrdiff_t n)
{
    VM_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) y[i] = FN(vm_logistic)(x[i]);
}

static void FN(tanh_map)(const REAL *x, REAL *y, ptrdiff_t n)
{
    VM_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) y[i] = FN(vm_tanh)(x[i]);
}

static void FN(elu_map)(const REAL *x, REAL *y, ptrdiff_t n, REAL alpha)
{
    VM_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL negative = alpha * FN(vm_expm1_negative)(x[i] > 0 ? 0 : x[i]);
        y[i] = x[i] > 0 ? x[i] : negative;
    }
}

static void FN(bnll_map)(const REAL *x, REAL *y, ptrdiff_t n)
{
    VM_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL e = FN(vm_exp)(-(REAL)__builtin_fabs(x[i]));
        y[i] = (x[i] < 0 ? 0 : x[i]) + FN(vm_log1p_unit)(e);
    }
}

static void FN(bnll_back_map)(const REAL *x, const REAL *dy, REAL *dx, ptrdiff_t n)
{
    VM_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL e = FN(vm_exp)(x[i] > 50 ? 50 : x[i]);
        dx[i] = dy[i] * (e / (e + 1));
    }
}

static void FN(swish_map)(const REAL *x, REAL *y, ptrdiff_t n, REAL beta)
{
    VM_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i] * FN(vm_logistic)(beta * x[i]);
}

static void FN(swish_back_map)(const REAL *x, const REAL *dy, REAL *dx, ptrdiff_t n, REAL beta)
{
    VM_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL s = FN(vm_logistic)(beta * x[i]), t = beta * x[i] * s;
        dx[i] = dy[i] * (t + s * (1 - t));
    }
}

static void FN(exp_map)(const REAL *x, REAL *y, ptrdiff_t n, REAL inner, REAL outer)
{
    VM_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) y[i] = outer * FN(vm_exp)(inner * x[i]);
}

static void FN(log_map)(const REAL *x, REAL *y, ptrdiff_t n, REAL scale, REAL shift, REAL factor)
{
    VM_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) y[i] = factor * FN(vm_log)(shift + scale * x[i]);
}
