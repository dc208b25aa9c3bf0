// Pooling over windows of images.
//
// Forward: one thread for each output.  Backward of the average: one thread for each place of the image, which adds
// the windows that it lies in.  Backward of the maximum knows only where the maxima were found, so a first kernel finds,
// for each row of windows, the first and the last row of the image that it points to, and the same for columns; with
// that, each place of the image looks at the few windows that can point to it, in their order.  Nothing is
// added by several threads at once, so every run gives the same bits.
#include "common.cuh"

const float LOWEST = -3.402823466e+38f;  // where Caffe starts its search, in either precision

template <typename real>
__global__ void max_pool(
    const real* x, real* y, int* index, index_t count, index_t H, index_t W, index_t rows, index_t columns,
    index_t kernel_h, index_t kernel_w, index_t stride_h, index_t stride_w, index_t pad_h, index_t pad_w
) {
    index_t o = thread_index();
    if (o >= count) return;
    int j = o % columns, i = o / columns % rows;
    const real* plane = x + o / (columns * rows) * H * W;
    int top = i * (int)stride_h - (int)pad_h, left = j * (int)stride_w - (int)pad_w;
    int bottom = min(top + (int)kernel_h, (int)H), right = min(left + (int)kernel_w, (int)W);
    real best = LOWEST;
    int place = -1;
    for (int h = max(top, 0); h < bottom; h++)
        for (int w = max(left, 0); w < right; w++) {
            real v = plane[h * (int)W + w];
            if (v > best) {
                best = v;
                place = h * (int)W + w;
            }
        }
    y[o] = best;
    if (index) index[o] = place;
}

// bands holds, for each plane: first and last row pointed to by each row of windows, first and last column by each
// column of windows, then first and last row of windows for each row of the image, and the same for columns.
// One block for each plane.
__global__ void pool_bands(const int* index, int* bands, index_t H_, index_t W_, index_t rows_, index_t columns_) {
    const int H = H_, W = W_, rows = rows_, columns = columns_;
    index += (index_t)blockIdx.x * rows * columns;
    bands += (index_t)blockIdx.x * 2 * (rows + columns + H + W);
    int *of_rows = bands, *of_columns = of_rows + 2 * rows, *to_rows = of_columns + 2 * columns, *to_columns = to_rows + 2 * H;
    for (int t = threadIdx.x; t < rows + columns; t += THREADS) {
        bool row = t < rows;
        int line = row ? t : t - rows, length = row ? columns : rows;
        int first = 0x7fffffff, last = -1;
        for (int k = 0; k < length; k++) {
            int place = row ? index[line * columns + k] : index[k * columns + line];
            if (place < 0 || place >= H * W) continue;
            int at = row ? place / W : place % W;
            first = min(first, at);
            last = max(last, at);
        }
        int* out = row ? of_rows : of_columns;
        out[2 * line] = first;
        out[2 * line + 1] = last;
    }
    __syncthreads();
    for (int t = threadIdx.x; t < H + W; t += THREADS) {
        bool row = t < H;
        int line = row ? t : t - H, length = row ? rows : columns;
        const int* in = row ? of_rows : of_columns;
        int first = 0x7fffffff, last = -1;
        for (int k = 0; k < length; k++)
            if (in[2 * k] <= line && line <= in[2 * k + 1]) {
                first = min(first, k);
                last = k;
            }
        int* out = row ? to_rows : to_columns;
        out[2 * line] = first;
        out[2 * line + 1] = last;
    }
}

template <typename real>
__global__ void max_pool_backward(
    const real* dy, const int* index, const int* bands, real* dx, index_t count, index_t H_, index_t W_, index_t rows_,
    index_t columns_
) {
    const int H = H_, W = W_, rows = rows_, columns = columns_;
    index_t q = thread_index();
    if (q >= count) return;
    index_t plane = q / ((index_t)H * W);
    int place = q % ((index_t)H * W), h = place / W, w = place % W;
    const int* to_rows = bands + plane * 2 * (rows + columns + H + W) + 2 * (rows + columns);
    const int* to_columns = to_rows + 2 * H;
    dy += plane * rows * columns;
    index += plane * rows * columns;
    double total = 0;
    for (int i = to_rows[2 * h]; i <= to_rows[2 * h + 1]; i++)
        for (int j = to_columns[2 * w]; j <= to_columns[2 * w + 1]; j++)
            if (index[i * columns + j] == place) total += dy[i * columns + j];
    dx[q] = (real)total;
}

// Area of a window, cut to the padded image; Caffe does not keep the sides from going below 0.
__device__ __forceinline__ int area(
    int i, int j, int H, int W, int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w
) {
    int height = min(i * stride_h + kernel_h, H + 2 * pad_h) - i * stride_h;
    int width = min(j * stride_w + kernel_w, W + 2 * pad_w) - j * stride_w;
    return height * width;
}

template <typename real>
__global__ void ave_pool(
    const real* x, real* y, index_t count, index_t H, index_t W, index_t rows, index_t columns, index_t kernel_h,
    index_t kernel_w, index_t stride_h, index_t stride_w, index_t pad_h, index_t pad_w
) {
    index_t o = thread_index();
    if (o >= count) return;
    int j = o % columns, i = o / columns % rows;
    const real* plane = x + o / (columns * rows) * H * W;
    int top = i * (int)stride_h - (int)pad_h, left = j * (int)stride_w - (int)pad_w;
    int bottom = min(top + (int)kernel_h, (int)H), right = min(left + (int)kernel_w, (int)W);
    double total = 0;
    for (int h = max(top, 0); h < bottom; h++)
        for (int w = max(left, 0); w < right; w++) total += plane[h * (int)W + w];
    y[o] = (real)(total / area(i, j, H, W, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w));
}

template <typename real>
__global__ void ave_pool_backward(
    const real* dy, real* dx, index_t count, index_t H_, index_t W_, index_t rows_, index_t columns_, index_t kernel_h_,
    index_t kernel_w_, index_t stride_h_, index_t stride_w_, index_t pad_h_, index_t pad_w_
) {
    const int H = H_, W = W_, rows = rows_, columns = columns_, kernel_h = kernel_h_, kernel_w = kernel_w_;
    const int stride_h = stride_h_, stride_w = stride_w_, pad_h = pad_h_, pad_w = pad_w_;
    index_t q = thread_index();
    if (q >= count) return;
    index_t plane = q / ((index_t)H * W);
    int place = q % ((index_t)H * W), h = place / W + pad_h, w = place % W + pad_w;
    dy += plane * rows * columns;
    double total = 0;
    // windows that hold (h, w): i * stride <= h < i * stride + kernel
    int i_first = h < kernel_h ? 0 : (h - kernel_h) / stride_h + 1, i_last = min(h / stride_h, rows - 1);
    int j_first = w < kernel_w ? 0 : (w - kernel_w) / stride_w + 1, j_last = min(w / stride_w, columns - 1);
    for (int i = i_first; i <= i_last; i++)
        for (int j = j_first; j <= j_last; j++)
            total += dy[i * columns + j] /
                (double)area(i, j, H, W, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w);
    dx[q] = (real)total;
}

template <typename real>
__global__ void places_as_numbers(const int* index, real* y, index_t n) {
    index_t i = thread_index();
    if (i < n) y[i] = (real)index[i];
}
