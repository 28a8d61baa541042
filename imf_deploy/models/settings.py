"""Settings of an architecture that change its answers but are not in a ``state_dict``."""

from imf_deploy.errors import UsageError
from imf_deploy.models.names import Architecture
from imf_deploy.settings.network import NetworkSettings

# These are passed to the library's function. Others would fetch files (pretrained, checkpoint_path) or change
# the parameters, which the file of weights shows.
_TIMM = ("act_layer", "global_pool", "bn_eps", "norm_eps", "pad_type")
INCEPTIONS = ("googlenet", "inception_v3")
"""torchvision's networks that can transform their input, and that have auxiliary heads."""


def known_settings(architecture: Architecture) -> tuple[str, ...] | None:
    """Return the names of an architecture's settings; ``None`` if a function of the user's decides."""
    if architecture.library == "factory":
        return None
    if architecture.library == "timm":
        return _TIMM
    if architecture.library == "torchvision" and architecture.name in INCEPTIONS:
        return ("transform_input",)
    return ()


def choices(architecture: Architecture) -> list[NetworkSettings]:
    """Return the settings, other than the defaults, that weights of this architecture often need.

    torchvision's published GoogLeNet and Inception expect ImageNet's mean and standard deviation, and convert
    them to those that they were trained with (``transform_input``).
    """
    inception = architecture.library == "torchvision" and architecture.name in INCEPTIONS
    return [(("transform_input", True),)] if inception else []


def check_settings(architecture: Architecture, settings: NetworkSettings) -> None:
    """Refuse settings that an architecture does not have.

    Raises:
        UsageError: naming the first such setting.
    """
    known = known_settings(architecture)
    for name, _ in settings:
        if known is not None and name not in known:
            raise UsageError(
                f"{architecture.name} has no setting '{name}'",
                f"Its settings are {', '.join(known)}" if known else "Leave it out",
            )
