"""The laboratory's engine: encoder, heads, dendrites, training, records (extra `learner`)."""

import logging
import sys

# perforatedai requires torchvision; the build on the index is for CUDA, so beside a CPU torch
# `import torchvision` fails on a missing operator, and with it every import of a transformers
# model and of peft. Nothing here uses torchvision, so where it does not load it is declared
# absent, once, before the first of those imports: every module of this package comes after this.
try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError, OSError):
    sys.modules["torchvision"] = None  # type: ignore[assignment]

# On a CPU with AVX512-BF16 its import recommends a package whose kernels come from the hub.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
