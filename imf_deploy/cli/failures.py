"""What the machine refuses, wherever and by whatever library it is met, as one message."""

from __future__ import annotations

from imf_deploy.errors import ImfDeployError
from imf_deploy.files import write_problem

_MEMORY = ("can't allocate memory", "not enough memory", "bad allocation", "bad_alloc", "out of memory")


def refusal(error: BaseException) -> ImfDeployError | None:
    """Return what to tell the user where an exception comes from the machine; nothing for a bug.

    Args:
        error: What escaped a command.
    """
    if problem := write_problem(error):
        return problem
    memory = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _MEMORY)
    )
    if memory:
        return ImfDeployError(
            "the memory is used up", "Give a smaller --batch-size or --image-size, or use another machine"
        )
    return None
