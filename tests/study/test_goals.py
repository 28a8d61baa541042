from __future__ import annotations

from dataclasses import replace

from imf_deploy.settings.study import GoalSettings
from imf_deploy.study.goals import answers
from imf_deploy.study.results import Network, Trained

STUDENT = "cifar:net"
THINNER = ["cifar:thinnest", "cifar:thin"]
WANTED = GoalSettings(goal_gain=0.5, goal_family_gain=0.7, goal_macs=0.5, goal_time=1.25)


def told(trained: list[Trained], networks: list[Network], thinner: list[str] = THINNER) -> list[str]:
    return [str(answer) for answer in answers(trained, networks, STUDENT, thinner, WANTED)]


def changed(trained: list[Trained], method: str, product: str, points: float) -> list[Trained]:
    """Return the trainings with one product of the full student moved by so many points."""
    return [
        replace(run, test={**run.test, product: run.test[product] + points / 100})
        if run.student == STUDENT and run.method == method and not run.variant and run.test
        else run
        for run in trained
    ]


def test_goals_are_sentences_with_numbers(trained: list[Trained], networks: list[Network]) -> None:
    assert told(trained, networks) == [
        "Yes: plain by IMF is 1.00 points above the student by KD (83.00 % against 82.00 %, 3 seeds; "
        "interval of the difference +0.50 to +1.50, which excludes zero); "
        "the goal is +0.50 points or more, and an interval above zero.",
        "Yes: imf@2 by IMF is 1.50 points above the student by KD (83.50 % against 82.00 %, 3 seeds; "
        "interval of the difference +0.42 to +2.58, which excludes zero); "
        "the goal is +0.70 points or more, and an interval above zero.",
        "Yes, but only on average: imf@1 is level with the full student by cross-entropy (80.00 % against "
        "80.00 %, 2 seeds, 1 unpaired left out; interval of the difference -12.71 to +12.71, "
        "which includes zero), and has 0.25 of its MACs; "
        "the goal is at least its accuracy with 0.5 of its MACs or fewer.",
        "Yes, but only on average: imf@1 is 1.33 points above cifar:thin by KD (81.00 % against 79.67 %, "
        "3 seeds; interval of the difference -2.46 to +5.13, which includes zero), the thinner student of "
        "the nearest latency (0.500 ms against 0.600 ms in fp32); IMF's training took 6.00 times its "
        "processor time; "
        "the goal is more accuracy than an equally fast thinner student.",
        "Yes: IMF's training took 1.20 times the processor time of KD's (median of 3 seeds); "
        "the goal is 1.25 times or less.",
        "plain by IMF is 1.00 points above the student by KD, the best other method (83.00 % against "
        "82.00 %, 3 seeds; interval of the difference +0.50 to +1.50, which excludes zero).",
    ]


def test_validation_chooses_the_best_other_method(trained: list[Trained], networks: list[Network]) -> None:
    accuracy = {"validation": {"plain": 0.9}, "test": {"plain": 0.81}}
    strong = [replace(trained[3], method="mlkd", seed=seed, **accuracy) for seed in (0, 1, 2)]
    wanted = GoalSettings(goal_best_gain=0.5)
    answer = answers([*trained, *strong], networks, STUDENT, THINNER, wanted)[-1]
    assert str(answer) == (
        "No: plain by IMF is 2.00 points above the student by MLKD, the best other method (83.00 % against "
        "81.00 %, 3 seeds; interval of the difference -0.48 to +4.48, which includes zero); "
        "the goal is +0.50 points or more, and an interval above zero."
    )
    # Whatever the test split says, and without methods beyond KD there is nothing to choose, or to repeat.
    best = [replace(run, test={"plain": 0.999}) if run.method == "dkd" else run for run in trained]
    assert "by KD, the best other method" in str(answers(best, networks, STUDENT)[-1])
    plain = [run for run in trained if run.method in ("imf", "kd", "ce")]
    assert len(answers(plain, networks, STUDENT)) == 5
    assert len(answers(plain, networks, STUDENT, (), wanted)) == 6


def test_a_gain_that_is_too_small_or_not_settled_is_a_no(
    trained: list[Trained], networks: list[Network]
) -> None:
    small = told(changed(trained, "imf", "plain", -0.49), networks)[0]
    # 0.51 points and 0.01 to 1.01 would do; a little less is below the goal.
    assert small.startswith("Yes: plain by IMF is 0.51 points above")
    assert told(changed(trained, "imf", "plain", -0.51), networks)[0].startswith(
        "No: plain by IMF is 0.49 points above"
    )
    unsettled = told(changed(trained, "imf", "imf@2", -0.60), networks)[1]
    assert unsettled.startswith("No: imf@2 by IMF is 0.90 points above")
    assert "-0.18 to +1.98, which includes zero" in unsettled
    worse = told(changed(trained, "imf", "plain", -3), networks)[0]
    assert worse.startswith("No: plain by IMF is 2.00 points below")
    assert "-2.50 to -1.50, which excludes zero" in worse


def test_one_seed_answers_neither_yes_nor_no(trained: list[Trained], networks: list[Network]) -> None:
    one = [run for run in trained if run.seed == 0]
    assert told(one, networks)[0] == (
        "Not known: plain by IMF is 1.00 points above the student by KD (82.00 % against 81.00 %, 1 seed; "
        "no interval from one seed); the goal is +0.50 points or more, and an interval above zero."
    )


def test_validation_chooses_among_those_with_half_the_macs(
    trained: list[Trained], networks: list[Network]
) -> None:
    assert "imf@1 is level with" in told(trained, networks)[2]
    networks[2] = replace(networks[2], macs=20_000_000)  # imf@2: exactly a half
    both = told(trained, networks)
    assert both[2].startswith("Yes: imf@2 is 3.25 points above the full student by cross-entropy")
    assert "has 0.50 of its MACs" in both[2]
    assert "imf@2 is 3.83 points above cifar:thin by KD" in both[3], "the same network goes on"
    # Whatever the test split says.
    liked = [
        replace(run, validation={**run.validation, "imf@1": 0.99}) if run.method == "imf" else run
        for run in trained
    ]
    assert "imf@1 is level with" in told(liked, networks)[2]


def test_a_strong_rival_of_its_latency_is_counted_too(
    trained: list[Trained], networks: list[Network]
) -> None:
    networks[2] = replace(networks[2], macs=20_000_000)
    strong = replace(trained[9], student="cifar:fast", validation={"plain": 0.9})
    # imf@2 is the more accurate one, and has 1.5 ms; imf@1 has more to spare over its own rival.
    fast = [*networks, Network("cifar:fast", "plain", 90_000, 12_000_000, {"fp32": 1.4})]
    lines = told([*trained, strong], fast, [*THINNER, "cifar:fast"])
    assert "imf@1 is level with" in lines[2]
    assert "above cifar:thin by KD" in lines[3]


def test_half_the_macs_says_no_with_the_nearest(trained: list[Trained], networks: list[Network]) -> None:
    no = told(changed(trained, "imf", "imf@1", -1), networks)[2]
    assert no.startswith("No: imf@1 is 1.00 points below the full student by cross-entropy")
    heavy = [replace(n, macs=21_000_000) if "imf" in n.product else n for n in networks]
    assert told(trained, heavy)[2].startswith("No: No imf@k has so few MACs")
    assert "above cifar:thin by KD" in told(trained, heavy)[3], "a thinner student is compared all the same"
    larger = [replace(n, macs=50_000_000) if "imf" in n.product else n for n in networks]
    assert told(trained, larger)[3].startswith("Not known: There is no imf@k to compare")


def test_the_rival_is_the_nearest_in_latency_by_its_best_method(
    trained: list[Trained], networks: list[Network]
) -> None:
    networks[4] = replace(networks[4], latency_ms={"fp32": 0.45})
    assert "above cifar:thinnest by KD" in told(trained, networks)[3]
    networks[4] = replace(networks[4], latency_ms={"fp32": 0.1})
    # Chosen on validation, whatever the test split says.
    better = [
        replace(run, validation={"plain": 0.9}) if (run.student, run.method) == ("cifar:thin", "ce") else run
        for run in trained
    ]
    line = told(better, networks)[3]
    assert line.startswith("Yes, but only on average: imf@1 is 2.00 points above cifar:thin by cross-entropy")
    assert "no interval from one seed" in line


def test_a_training_that_takes_too_long_is_a_no(trained: list[Trained], networks: list[Network]) -> None:
    slow = [
        replace(run, cpu_seconds=1.5 * run.cpu_seconds) if run.method == "imf" else run for run in trained
    ]
    assert told(slow, networks)[4].startswith("No: IMF's training took 1.80 times")


def test_without_results_nothing_is_known() -> None:
    assert [answer.met for answer in answers([], [], STUDENT)] == [None] * 5


def test_without_costs_only_the_gains_and_the_time_are_known(trained: list[Trained]) -> None:
    assert [answer.met for answer in answers(trained, [], STUDENT, THINNER, WANTED)] == [
        True,
        True,
        None,
        None,
        True,
        True,
    ]


def test_without_goals_the_comparisons_have_no_answer(
    trained: list[Trained], networks: list[Network]
) -> None:
    lines = [str(answer) for answer in answers(trained, networks, STUDENT, THINNER)]
    assert lines[0].startswith("plain by IMF is 1.00 points above the student by KD (83.00 % against 82.00 %")
    assert lines[2].startswith("imf@2 is 3.25 points above the full student by cross-entropy")
    assert lines[4] == ("IMF's training took 1.20 times the processor time of KD's (median of 3 seeds).")
    assert not [line for line in lines if "goal" in line or line.startswith(("Yes", "No"))]


def test_each_goal_is_an_argument(trained: list[Trained], networks: list[Network]) -> None:
    high = GoalSettings(
        goal_gain=1.01, goal_family_gain=1.51, goal_macs=0.2, goal_time=1.19, goal_best_gain=1.01
    )
    lines = [str(answer) for answer in answers(trained, networks, STUDENT, THINNER, high)]
    assert [line.partition(":")[0] for line in lines] == [
        "No", "No", "No", "Yes", "No", "No",
    ]  # fmt: skip
    one = [
        str(answer) for answer in answers(trained, networks, STUDENT, THINNER, GoalSettings(goal_time=1.2))
    ]
    assert one[4].startswith("Yes: IMF's training") and "goal" not in "".join(one[:4])
