"""The definition of every computation, in a few lines of NumPy each.

Written to be read and to be right: sums are taken in float64, and nothing is done for speed.
The arguments are not checked.
"""

from caffebn.ops.geometry import ConvGeometry
from caffebn.ops.reference.channel import (
    affine,
    channel_dot,
    channel_sum,
    inv_std,
    moments,
    normalize,
    normalize_backward,
    stored_statistics,
    update_statistics,
)
from caffebn.ops.reference.conv import (
    conv_backward_data,
    conv_backward_weight,
    conv_forward,
    conv_scratch_size,
)
from caffebn.ops.reference.copy import add_from, copy_from, copy_into
from caffebn.ops.reference.elementwise import (
    axpy,
    dropout,
    fill,
    maximum,
    maximum_update,
    multiply,
    product_gradient,
    relu,
    relu_backward,
    scale_copy,
    select_gradient,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
    weighted_sum,
)
from caffebn.ops.reference.gemm import gemm
from caffebn.ops.reference.lrn import lrn_across, lrn_across_backward, lrn_within, lrn_within_backward
from caffebn.ops.reference.pool import ave_pool, ave_pool_backward, max_pool, max_pool_backward
from caffebn.ops.reference.softmax import (
    accuracy,
    softmax,
    softmax_backward,
    softmax_loss,
    softmax_loss_backward,
)
from caffebn.ops.reference.update import (
    sum_of_squares,
    update_adadelta,
    update_adagrad,
    update_adam,
    update_nadam,
    update_nesterov,
    update_rmsprop,
    update_sgd,
)

__all__ = [
    "ConvGeometry",
    "accuracy",
    "add_from",
    "affine",
    "ave_pool",
    "ave_pool_backward",
    "axpy",
    "channel_dot",
    "channel_sum",
    "conv_backward_data",
    "conv_backward_weight",
    "conv_forward",
    "conv_scratch_size",
    "copy_from",
    "copy_into",
    "dropout",
    "fill",
    "gemm",
    "inv_std",
    "lrn_across",
    "lrn_across_backward",
    "lrn_within",
    "lrn_within_backward",
    "max_pool",
    "max_pool_backward",
    "maximum",
    "maximum_update",
    "moments",
    "multiply",
    "normalize",
    "normalize_backward",
    "product_gradient",
    "relu",
    "relu_backward",
    "scale_copy",
    "select_gradient",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "softmax_loss",
    "softmax_loss_backward",
    "stored_statistics",
    "sum_of_squares",
    "tanh",
    "tanh_backward",
    "update_adadelta",
    "update_adagrad",
    "update_adam",
    "update_nadam",
    "update_nesterov",
    "update_rmsprop",
    "update_sgd",
    "update_statistics",
    "weighted_sum",
]
