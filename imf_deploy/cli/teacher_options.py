"""Options of the teacher that several commands share, each described once."""

from __future__ import annotations

from typing import Annotated

import typer

from imf_deploy.cli.options import METHOD

TeacherName = Annotated[
    str,
    typer.Option(
        "--teacher",
        help="Named as a student is; vision transformers too; empty chooses.",
        rich_help_panel=METHOD,
    ),
]
TeacherWeights = Annotated[
    str,
    typer.Option(
        help="safetensors, .pt, .pth or .ckpt; empty takes the packaged teacher or trains one.",
        rich_help_panel=METHOD,
    ),
]
WeightsKey = Annotated[
    str,
    typer.Option(
        help="Which weights of the teacher's file to take, such as model_ema; empty finds them.",
        rich_help_panel=METHOD,
    ),
]
TeacherOptions = Annotated[
    str,
    typer.Option(
        help="Settings of the teacher's network that its weights do not show, such as transform_input=true.",
        rich_help_panel=METHOD,
    ),
]
TeacherStemStrides = Annotated[
    str,
    typer.Option(
        help="Strides at the given teacher's first reductions, such as 1,2, or own; empty finds them.",
        rich_help_panel=METHOD,
    ),
]
AcceptWeakTeacher = Annotated[
    bool,
    typer.Option(
        "--accept-weak-teacher",
        help="Train even if the teacher's accuracy is that of chance, or another use of it is better.",
        rich_help_panel=METHOD,
    ),
]
TeacherEpochs = Annotated[
    int, typer.Option(help="Epochs, where the teacher is trained.", rich_help_panel=METHOD)
]
TeacherTap = Annotated[
    str,
    typer.Option(
        help="Module of the teacher that puts out its features; empty takes its last block.",
        rich_help_panel=METHOD,
    ),
]
