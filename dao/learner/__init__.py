"""The multi-task learner: one encoder, a head for each column of your table (extra `learner`).

`load` brings a finished run back as a model:

    from dao.learner import load

    model = load("results/my/a+b/seed=0")
    model.predict(["Net loss narrowed in the third quarter"])
"""

import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dao.learner.inference.load import Model, load

__all__ = ["Model", "load"]

# Schema of both operators that torchvision describes whether or not its compiled part is there.
NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _settle_torchvision() -> None:
    """Let `import torchvision` succeed beside a torch that its compiled part does not fit.

    perforatedai requires torchvision; the build on the index is for CUDA. Beside a CPU torch its
    import fails on two operators of the compiled part, and with it every import of a transformers
    model, of peft, of torchmetrics and of Lightning. With the names of both operators it loads; to
    call one of them still is an error. Where it does not load even so, it is declared absent.
    """
    try:
        try:
            import torchvision
        except RuntimeError as error:
            if "operator torchvision::nms does not exist" not in str(error):
                raise
            import torch

            for name in ("nms", "qnms"):
                torch.library.define(f"torchvision::{name}", NMS)
            import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]


# Once, before the first of those imports: every module of this package comes after this.
_settle_torchvision()

# On a CPU with AVX512-BF16 its import recommends a package whose kernels come from the hub.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:  # noqa: ANN401
    # Imported when it is asked for: it needs transformers, and most of the learner does not.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dao.learner.inference import load as module

    return getattr(module, name)
