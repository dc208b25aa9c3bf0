"""The way out: nets as ONNX models, PyTorch modules and arrays by name; and weights from elsewhere in."""

from caffebn.export.arrays import arrays
from caffebn.export.incoming import Imported, import_weights
from caffebn.export.onnx_model import OnnxExport, onnx
from caffebn.export.preprocess import Preprocess
from caffebn.export.torch_module import TorchExport, torch
from caffebn.export.verify import Verification, VerifyError

__all__ = [
    "Imported",
    "OnnxExport",
    "Preprocess",
    "TorchExport",
    "Verification",
    "VerifyError",
    "arrays",
    "import_weights",
    "onnx",
    "torch",
]
