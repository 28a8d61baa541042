"""Choice of the file to deploy from a run."""

from imf_deploy.records.report import ArtifactRow, Recommendation
from imf_deploy.report.metrics import gate_words
from imf_deploy.show.format import significant

# A faster file may be this much less accurate on validation images than the best one.
MAX_ACCURACY_DROP = 0.01
# Rounding must not decide: 149 correct of 300 are within a point of 152.
_EPSILON = 1e-9
# Latencies this close are treated as equal.
NOISE = 0.03


def recommend(rows: list[ArtifactRow], latency_budget_ms: float | None = None) -> Recommendation | None:
    """Choose the file to deploy: the fastest whose validation accuracy is within one point of the best.

    With a latency budget, it is the most accurate of the files whose median latency is within it.

    The accuracy on test images is never used. An INT8 file's validation accuracy is its own; that of other
    files is their product's in PyTorch. Only files that passed and were timed are considered, and latencies
    within 3 % count as equal. Without a validation split there is no recommendation.
    """
    fit = [
        (row, row.validation_accuracy, row.latency_ms.p50)
        for row in rows
        if row.status == "pass" and row.latency_ms and row.validation_accuracy is not None
    ]
    if latency_budget_ms is not None:
        fit = [entry for entry in fit if entry[2] <= latency_budget_ms]
    if not fit:
        return None
    drop = MAX_ACCURACY_DROP if latency_budget_ms is None else 0.0
    best = max(accuracy for _, accuracy, _ in fit)
    good = [entry for entry in fit if entry[1] >= best - drop - _EPSILON]
    fastest = min(p50 for _, _, p50 in good)
    # A tie goes to the earlier row: plain before imf@k, fp32 before fp16.
    row, accuracy, p50 = next(entry for entry in good if entry[2] <= fastest * (1 + NOISE))
    own = "its own accuracy" if row.calibration else "its product's accuracy in PyTorch"
    if latency_budget_ms is not None:
        reason = (
            f"the most accurate file on the validation images ({own} is {accuracy:.1%}) of the {len(fit)} "
            f"within {latency_budget_ms:g} ms ({significant(p50)} ms at batch 1)"
        )
    else:
        limit = f"{drop * 100:.0f} point"
        reason = (
            f"the fastest file ({significant(p50)} ms at batch 1) of those within {limit} of the best "
            f"on the validation images ({own} is {accuracy:.1%}, the best is {best:.1%})"
        )
    return Recommendation(row.path, reason, gate_words(row.gate, row.metrics))
