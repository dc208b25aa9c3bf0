// Where the elements of an image and of its convolution meet.  A is the number of spatial axes.
//
// table: for each axis, in turn: size of the image, of the output, of the kernel, stride, pad, dilation.
#include "common.cuh"

template <int A>
struct Axes {
    int size[A], out[A], kernel[A], stride[A], pad[A], dilation[A];
    __device__ Axes(const int* table) {
        for (int a = 0; a < A; a++) {
            size[a] = table[6 * a];
            out[a] = table[6 * a + 1];
            kernel[a] = table[6 * a + 2];
            stride[a] = table[6 * a + 3];
            pad[a] = table[6 * a + 4];
            dilation[a] = table[6 * a + 5];
        }
    }
    // Offset in a plane of the image of what kernel position k sees at output place p; -1 outside.
    __device__ int source(int k, int p) const {
        int offset = 0, step = 1;
        for (int a = A - 1; a >= 0; a--) {
            int i = p % out[a] * stride[a] - pad[a] + k % kernel[a] * dilation[a];
            if (i < 0 || i >= size[a]) return -1;
            offset += i * step;
            step *= size[a];
            p /= out[a];
            k /= kernel[a];
        }
        return offset;
    }
    // The output place that sees place q of the image at kernel position k; -1 when there is none.
    __device__ int target(int k, int q) const {
        int offset = 0, step = 1;
        for (int a = A - 1; a >= 0; a--) {
            int i = q % size[a] + pad[a] - k % kernel[a] * dilation[a];
            if (i < 0 || i % stride[a] || i / stride[a] >= out[a]) return -1;
            offset += i / stride[a] * step;
            step *= out[a];
            q /= size[a];
            k /= kernel[a];
        }
        return offset;
    }
};
