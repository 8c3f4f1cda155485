"""The laboratory's engine: encoder, heads, dendrites, training, records (extra `learner`)."""

import logging
import sys

import torch

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
            for name in ("nms", "qnms"):
                torch.library.define(f"torchvision::{name}", NMS)
            import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]


# Once, before the first of those imports: every module of this package comes after this.
_settle_torchvision()

# On a CPU with AVX512-BF16 its import recommends a package whose kernels come from the hub.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
