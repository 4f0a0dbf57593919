"""How towers of this project become models of timm: with weights of a folder, as timm's own."""

from typing import Any

from timm.models import PretrainedCfg, build_model_with_cfg
from torch import nn

_MEANT_FOR_TIMM = ("num_classes", "in_chans", "global_pool")
"""What timm passes to every tower; ours are encoders of coloured images and have one pooling."""


def build(tower: type[nn.Module], name: str, pretrained: bool, args: dict[str, Any]) -> Any:
    """What the function that timm calls for a model returns.

    Args:
        name: Of the model in timm.
        pretrained: Read the weights that `pretrained_cfg` among the arguments names.
    """
    config = args.pop("pretrained_cfg", None) or PretrainedCfg()  # none would be warned about
    return build_model_with_cfg(
        tower, name, pretrained, pretrained_cfg=config, kwargs_filter=_MEANT_FOR_TIMM, **args
    )
