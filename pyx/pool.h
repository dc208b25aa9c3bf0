/* Pooling for pool.pyx: the work on one block, which is some windows of a plane or several small planes.

   A window is taken in two steps, along its rows and then across them: 2 k steps instead of k * k.  Both run over
   a frame, a copy of the part of the input that the block reads, with what lies outside of the image filled in (by
   the lowest number, or 0).  A row r of a plane lies in the frame among the rows of the same phase, r % stride, and is a
   multiple of the stride wide.  So both steps are loops over flat arrays, all rows and planes at once, with nothing at
   the edges to look after, as quick for maps of 7 x 7 as for wide ones; what they compute between the rows is never
   read.  Rows are copied into the frame and out of it in chunks of a fixed size: what a chunk writes behind its row, the
   next row overwrites.  Frames and results lie on the stack and mostly in L1.

   Maxima whose places nobody asks for (a net in the test phase) need no order: long rows go down first, and need no
   frame.

   Windows as wide as the image (global pooling) are runs of memory and need no frame; windows that are too large for
   a frame are taken row by row.

   The first of equal maxima in row order has to win: strictly larger values alone replace what is there, first the
   first column, then the first row.  Which value is taken is written with masks of bits, because gcc makes branches
   of two choices by one comparison. */
#ifndef CAFFEBN_POOL_H
#define CAFFEBN_POOL_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lanes.h"

enum {
    POOL_FRAME = 2048,      /* elements of a frame */
    POOL_CHUNK = LANES,       /* elements that are moved at once; parts in which a run is taken */
    POOL_SLACK = 64         /* elements behind a frame that may be touched */
};

/* What all blocks of a call share. */
typedef struct {
    ptrdiff_t planes, height, width, rows, columns;     /* of x, of y */
    ptrdiff_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    ptrdiff_t reach_h, reach_w;                         /* strides that a kernel covers, at least in part */
    ptrdiff_t first_row, first_column, end_row, end_column;  /* what is cut: windows, or strides of the padded image */
    ptrdiff_t block_planes, block_rows, block_columns;  /* of a block; no rows: windows do not fit into a frame */
    ptrdiff_t down, across, blocks;                     /* number of blocks */
    int as_runs;                                        /* windows are as wide as the image */
} pooling;

/* One block. */
typedef struct {
    ptrdiff_t plane, planes, i, rows, j, columns;       /* what it holds: windows, or strides */
    ptrdiff_t slots, step;                              /* rows of a phase of one plane; columns of a phase */
} pool_block;

/* A window, cut to the image, and its area, cut to the padded image. */
typedef struct {
    ptrdiff_t h0, h1, w0, w1;
    double area;
} pool_window;

static inline ptrdiff_t pool_min(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static inline ptrdiff_t pool_max(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static inline ptrdiff_t pool_up(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }
static inline ptrdiff_t whole_chunks(ptrdiff_t n) { return (n + POOL_CHUNK - 1) & -POOL_CHUNK; }

/* Cut the work into blocks: of windows, or for the gradient of averages (`back`) of strides of the padded image. */
static inline void plan_blocks(pooling *p, int back, int n_threads)
{
    p->reach_h = pool_up(p->kernel_h, p->stride_h);
    p->reach_w = pool_up(p->kernel_w, p->stride_w);
    p->first_row = back ? p->pad_h / p->stride_h : 0;
    p->first_column = back ? p->pad_w / p->stride_w : 0;
    p->end_row = back ? (p->height - 1 + p->pad_h) / p->stride_h + 1 : p->rows;
    p->end_column = back ? (p->width - 1 + p->pad_w) / p->stride_w + 1 : p->columns;
    p->as_runs = p->columns == 1 && p->kernel_w - p->pad_w >= p->width;
    p->block_planes = 1;
    /* a frame holds all phases; of shares, one phase, but two frames have to hold what the phases of columns become */
    const double phases = back ? (double)pool_max(p->stride_w, 2) / 2 : (double)(p->stride_h * p->stride_w);
    const double room = POOL_FRAME / phases, reach = (double)p->reach_h * (double)p->reach_w;
    if (p->as_runs || reach > room) {
        p->block_rows = 0;
        p->down = back ? 1 : p->rows;
        p->across = back ? 1 : p->columns;
    } else {
        ptrdiff_t rows = p->end_row - p->first_row, columns = p->end_column - p->first_column;
        while (columns > 1 && (double)(p->reach_h * (columns + p->reach_w - 1)) > room) columns = pool_up(columns, 2);
        while (rows > 1 && (double)((rows + p->reach_h - 1) * (columns + p->reach_w - 1)) > room)
            rows = pool_up(rows, 2);
        p->block_rows = rows;
        p->block_columns = columns;
        p->down = pool_up(p->end_row - p->first_row, rows);
        p->across = pool_up(p->end_column - p->first_column, columns);
        if (p->down == 1 && p->across == 1) {
            const ptrdiff_t fit = (ptrdiff_t)(room / (double)((rows + p->reach_h - 1) * (columns + p->reach_w - 1)));
            p->block_planes = pool_max(1, pool_min(fit, p->planes / (4 * (ptrdiff_t)n_threads)));
        }
    }
    p->blocks = pool_up(p->planes, p->block_planes) * p->down * p->across;
}

static inline pool_block block_at(const pooling *p, ptrdiff_t number)
{
    pool_block b;
    b.plane = number / (p->down * p->across) * p->block_planes;
    b.planes = pool_min(p->block_planes, p->planes - b.plane);
    if (!p->block_rows) {
        b.i = number / p->across % p->down;
        b.j = number % p->across;
        b.rows = b.columns = 1;
    } else {
        b.i = p->first_row + number / p->across % p->down * p->block_rows;
        b.j = p->first_column + number % p->across * p->block_columns;
        b.rows = pool_min(p->block_rows, p->end_row - b.i);
        b.columns = pool_min(p->block_columns, p->end_column - b.j);
    }
    b.slots = b.rows + p->reach_h - 1;
    b.step = b.columns + p->reach_w - 1;
    return b;
}

/* Elements of y behind row r of a plane of the block that the block writes later on. */
static inline ptrdiff_t behind_row(const pooling *p, const pool_block *b, ptrdiff_t plane, ptrdiff_t r)
{
    return b->columns == p->columns ? ((b->planes - plane) * b->rows - 1 - r) * b->columns : 0;
}

/* As in Caffe the sides are not kept from going below 0: a window that starts beyond the edge of the padded image has
   the average 0, one right behind it NaN. */
static inline pool_window window_at(const pooling *p, ptrdiff_t i, ptrdiff_t j)
{
    const ptrdiff_t top = i * p->stride_h - p->pad_h, left = j * p->stride_w - p->pad_w;
    const ptrdiff_t bottom = pool_min(top + p->kernel_h, p->height + p->pad_h);
    const ptrdiff_t right = pool_min(left + p->kernel_w, p->width + p->pad_w);
    pool_window w;
    w.area = (double)((bottom - top) * (right - left));
    w.h0 = pool_max(top, 0), w.h1 = pool_min(bottom, p->height);
    w.w0 = pool_max(left, 0), w.w1 = pool_min(right, p->width);
    return w;
}

/* Places are counted in integers as wide as the values, so that both fill the same vectors. */
#define PLACE INTEGER

#define IMPL "pool_impl.h"
#include "for_reals.h"

#endif
