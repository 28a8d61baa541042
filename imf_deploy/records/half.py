"""The part of an fp16 file's record that says which nodes stay in fp32, and how the file was judged."""

from dataclasses import dataclass, field

from imf_deploy.forms import Whole
from imf_deploy.records.making import Epoch, Score


@dataclass(frozen=True)
class KeptNode:
    """A node of an fp16 file that computes in fp32.

    Attributes:
        node: Name of the node.
        op_type: Operator, such as ``Conv``.
        reason: Why it does not compute in fp16.
    """

    node: str
    op_type: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class HalfFit:
    """How an fp16 file was fitted to images.

    Attributes:
        kept: Nodes that stay in fp32; empty if all numbers fit into fp16.
        casts: Number of Casts in the file, including those of its input and its output.
        images: Number of images on which activations were measured; 0 if only weights were judged.
        images_sha256: Hash of these images.
        validation: Score against the fp32 file on validation images, with every fp16 value rounded as on a
            GPU; null if there are none.
        tries: Numbers of layers that were kept to pass the gate, with their scores.
    """

    kept: list[KeptNode]
    casts: Whole
    images: Whole = 0
    images_sha256: str = ""
    validation: Score | None = None
    tries: list[Epoch] = field(default_factory=list)
