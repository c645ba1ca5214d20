"""Layers, losses, optimizers and a training loop: networks on NumPy alone, every gradient in the open.

Names load their module when first used.
"""

from __future__ import annotations

from typing import Any

from ..lazy import loaded

#: Where each public name lives.
_HOME = {
    "layer": ("Layer",),
    "containers": ("Container", "Identity", "Parallel", "Residual", "Sequential"),
    "convolutions": ("Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv"),
    "pools": ("AdaptiveAvgPool", "AvgPool", "GlobalAvgPool", "MaxPool"),
    "upsampling": ("Upsample",),
    "norms": ("BatchNorm", "GroupNorm", "LayerNorm"),
    "dense": ("Dropout", "Flatten", "Linear"),
    "activations": ("GELU", "LeakyReLU", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softmax", "Tanh"),
    "summaries": ("summary",),
    "losses": ("BCEWithLogits", "CrossEntropy", "Huber", "L1", "Loss", "MSE"),
    "optimizer": ("Optimizer",),
    "optimizers": ("SGD", "Adam", "AdamW", "RMSprop"),
    "clipping": ("clip_gradients",),
    "schedules": ("cosine", "step", "warm_up"),
    "training": ("fit",),
    "history": ("History", "Progress"),
    "divergence": ("DivergedError",),
    "checkpoints": ("load_checkpoint", "save_checkpoint"),
    "checkpoint_file": ("CheckpointError",),
    "augmentation": ("Normalise", "augment"),
    "inference": ("ModelPlan", "plan"),
    "files": ("WeightsError", "load_weights", "save_weights"),
    "names": ("match_weights",),
}

#: Modules to use by name, as in ``nn.models.resnet18``.
_MODULES = ("models",)

__all__ = sorted(name for names in _HOME.values() for name in names)


def __getattr__(name: str) -> Any:
    return loaded(__name__, _HOME, name, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
