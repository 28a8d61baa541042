"""Comparisons of a study as sentences, which answer yes or no if a goal was set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from imf_deploy.method.names import PLAIN
from imf_deploy.settings.study import GoalSettings
from imf_deploy.show.format import significant
from imf_deploy.study import selection
from imf_deploy.study.results import Network, Trained
from imf_deploy.study.selection import Runs, test_accuracies, title, validation_accuracies
from imf_deploy.study.statistics import Difference, paired_difference, paired_ratio, spread
from imf_deploy.study.tables import signed

NONE = GoalSettings()


@dataclass(frozen=True)
class Answer:
    """One comparison and its result.

    Attributes:
        met: Whether the goal was reached; ``None`` if a result is missing.
        numbers: The numbers as plain text (:func:`imf_deploy.show.markdown.text` escapes it).
        aim: The goal in words; empty if none was set.
        settled: Whether the interval agrees with the mean; otherwise a yes holds only on average.
    """

    met: bool | None
    numbers: str
    aim: str = ""
    settled: bool = True

    def __str__(self) -> str:
        """Return a sentence; it begins with the answer if a goal was set."""
        if not self.aim:
            return f"{self.numbers}."
        yes = "Yes" if self.settled else "Yes, but only on average"
        answer = "Not known" if self.met is None else yes if self.met else "No"
        return f"{answer}: {self.numbers}; the goal is {self.aim}."


def answers(
    trained: Collection[Trained],
    networks: Collection[Network],
    student: str,
    thinner: Sequence[str] = (),
    wanted: GoalSettings = NONE,
) -> list[Answer]:
    """Return the results of comparisons on the test split, with the methods' own settings only.

    They are the gain of the student over KD, that of the largest ``imf@k``, the accuracy with fewer MACs,
    that network against an equally fast thinner student, and the time of training. With methods beyond KD and
    cross-entropy, or with a goal for it, the gain of the student over the best other method follows; that
    method is the best on validation images.

    Args:
        trained: Trainings of one budget.
        networks: Costs; without them, some answers are not known.
        student: The full student.
        thinner: Names of thinner students.
        wanted: The goals.
    """
    methods = selection.tested(trained, student)
    imf = methods.get("imf", {})
    names = selection.prefixes(name for run in imf.values() for name in run.test)
    own = selection.by_product(networks, student)
    rivals = _Thinner.of(trained, networks, thinner)
    small, fewer = _fewer_macs(methods, own, names, rivals, wanted.goal_macs)
    results = [
        _gain(methods, PLAIN, wanted.goal_gain),
        _gain(methods, names[-1] if names else "the largest imf@k", wanted.goal_family_gain),
        fewer,
        _against_thinner(methods, own, small, rivals, wanted.goal_macs is not None),
        _time(methods, wanted.goal_time),
    ]
    others = [method for method in methods if method != "imf"]
    if wanted.goal_best_gain is not None or not set(others) <= {"ce", "kd"}:
        best = selection.most_accurate(others, methods) or "kd"
        results.append(_gain(methods, PLAIN, wanted.goal_best_gain, best, ", the best other method"))
    return results


def _gain(
    methods: Mapping[str, Runs], product: str, wanted: float | None, rival: str = "kd", about: str = ""
) -> Answer:
    ours, theirs = test_accuracies(methods.get("imf", {}), product), test_accuracies(methods.get(rival, {}))
    other = f"the student by {title(rival)}{about}"
    difference = paired_difference(ours, theirs)
    aim = "" if wanted is None else f"{signed(wanted / 100)} points or more, and an interval above zero"
    if difference.mean is None:
        return Answer(None, f"{product} by IMF and {other} have no tested seed in common", aim)
    # Without an interval, half of the question has no answer.
    met = None if difference.low is None else 100 * difference.mean >= (wanted or 0) and difference.low > 0
    numbers = _compared(f"{product} by IMF", ours, other, theirs, difference)
    return Answer(met, numbers, aim)


@dataclass(frozen=True)
class _Thinner:
    """A thinner student whose latency is known, trained by the method that trains it best.

    Attributes:
        name: Name of its architecture.
        latency: Latency of one image in fp32, in milliseconds.
        method: The method with the best validation accuracy; ``None`` if it was not trained.
        runs: Its trainings by that method.
    """

    name: str
    latency: float
    method: str | None
    runs: Runs

    @classmethod
    def of(
        cls, trained: Collection[Trained], networks: Collection[Network], names: Sequence[str]
    ) -> list[_Thinner]:
        thinner = []
        for name in names:
            network = selection.by_product(networks, name).get(PLAIN)
            if network and "fp32" in network.latency_ms:
                methods = selection.tested(trained, name)
                best = selection.most_accurate(list(methods), methods)
                thinner.append(cls(name, network.latency_ms["fp32"], best, methods[best] if best else {}))
        return thinner


def _nearest(rivals: Sequence[_Thinner], network: Network) -> _Thinner | None:
    """Return the thinner student whose latency is nearest to a network's."""
    if "fp32" not in network.latency_ms:
        return None
    own = network.latency_ms["fp32"]
    return min(rivals, key=lambda rival: (abs(rival.latency - own), rival.name), default=None)


def _fewer_macs(
    methods: Mapping[str, Runs],
    own: Mapping[str, Network],
    names: Sequence[str],
    rivals: Sequence[_Thinner],
    part: float | None,
) -> tuple[str | None, Answer]:
    """Return the ``imf@k`` that represents the family, and the result of its comparison.

    It is the one with the largest margin on validation images over both the student by cross-entropy and an
    equally fast thinner student; the test split chooses nothing. If no part of the MACs is given, or none has
    so few, all with fewer MACs than the student are candidates.
    """
    aim = "" if part is None else f"at least its accuracy with {part:g} of its MACs or fewer"
    whole = own.get(PLAIN)
    ce = test_accuracies(methods.get("ce", {}))
    missing = Answer(None, "MACs or accuracies of imf@k or of the student are missing", aim)
    if not whole or not names or any(name not in own for name in names):
        return None, missing
    smaller = [name for name in names if own[name].macs < whole.macs]
    allowed = smaller if part is None else [name for name in names if own[name].macs <= part * whole.macs]
    imf = methods["imf"]

    def spare(name: str) -> float:
        rival = _nearest(rivals, own[name])
        others = [_on_validation(runs) for runs in (methods.get("ce"), rival.runs if rival else None) if runs]
        return _on_validation(imf, name) - max(others, default=0.0)

    if not allowed:
        return max(smaller, key=spare, default=None), Answer(False, "No imf@k has so few MACs", aim)
    name = max(allowed, key=spare)
    ours = test_accuracies(imf, name)
    difference = paired_difference(ours, ce)
    if (mean := difference.mean) is None:
        return None, missing
    numbers = _compared(name, ours, "the full student by cross-entropy", ce, difference)
    numbers += f", and has {own[name].macs / whole.macs:.2f} of its MACs"
    return name, Answer(mean >= 0, numbers, aim, difference.low is not None and difference.low >= 0)


def _on_validation(runs: Runs, product: str = PLAIN) -> float:
    return spread(validation_accuracies(runs, product).values()).mean or 0.0


def _against_thinner(
    methods: Mapping[str, Runs],
    own: Mapping[str, Network],
    small: str | None,
    rivals: Sequence[_Thinner],
    wanted: bool,
) -> Answer:
    """Compare with the thinner student of the nearest latency, by the method that trains it best."""
    aim = "more accuracy than an equally fast thinner student" if wanted else ""
    network = own.get(small or "")
    rival = _nearest(rivals, network) if network else None
    if small is None or network is None or rival is None:
        missing = "There is no imf@k to compare, or no fp32 latency of it or of a thinner student"
        return Answer(None, missing, aim)
    imf = methods["imf"]
    ours, theirs = test_accuracies(imf, small), test_accuracies(rival.runs)
    difference = paired_difference(ours, theirs)
    speed = network.latency_ms["fp32"]
    times = f"{significant(speed)} ms against {significant(rival.latency)} ms in fp32"
    if rival.method is None or difference.mean is None:
        numbers = f"{rival.name} is nearest to {small} ({times}), but they have no tested seed in common"
        return Answer(None, numbers, aim)
    numbers = _compared(small, ours, f"{rival.name} by {title(rival.method)}", theirs, difference)
    numbers += f", the thinner student of the nearest latency ({times})"
    if ratio := paired_ratio(selection.cpu_seconds(imf), selection.cpu_seconds(rival.runs)):
        numbers += f"; IMF's training took {ratio:.2f} times its processor time"
    return Answer(difference.mean > 0, numbers, aim, difference.excludes_zero)


def _time(methods: Mapping[str, Runs], wanted: float | None) -> Answer:
    aim = "" if wanted is None else f"{wanted:g} times or less"
    imf, kd = (selection.cpu_seconds(methods.get(name, {})) for name in ("imf", "kd"))
    ratio = paired_ratio(imf, kd)
    if ratio is None:
        return Answer(None, "IMF and KD have no timed seed in common", aim)
    seeds = _seeds(len(imf.keys() & kd.keys()))
    numbers = f"IMF's training took {ratio:.2f} times the processor time of KD's (median of {seeds})"
    return Answer(wanted is None or ratio <= wanted, numbers, aim)


def _compared(
    one: str, ours: Mapping[int, float], other: str, theirs: Mapping[int, float], difference: Difference
) -> str:
    """Return which side is better by how much, and whether the seeds settle it; means are over the pairs."""
    pairs = sorted(ours.keys() & theirs.keys())
    mean = difference.mean or 0.0
    means = [spread([side[seed] for seed in pairs]).mean or 0.0 for side in (ours, theirs)]
    distance = signed(abs(mean)).lstrip("+")
    apart = f"{distance} points {'below' if mean < 0 else 'above'}" if distance != "0.00" else "level with"
    text = f"{one} is {apart} {other}"
    text += f" ({100 * means[0]:.2f} % against {100 * means[1]:.2f} %, {_seeds(len(pairs))}"
    if difference.left_out:
        text += f", {difference.left_out} unpaired left out"
    if difference.low is None or difference.high is None:
        why = "one seed" if len(pairs) == 1 else "differences that are all the same"
        return f"{text}; no interval from {why})"
    settled = "excludes" if difference.excludes_zero else "includes"
    ends = f"{signed(difference.low)} to {signed(difference.high)}"
    return f"{text}; interval of the difference {ends}, which {settled} zero)"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"
