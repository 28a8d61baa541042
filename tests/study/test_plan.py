"""Which trainings a study consists of, and which studies are refused."""

import re
from dataclasses import fields, replace
from typing import Any, get_args

import pytest
import torch

from imf_deploy.data import DataSet
from imf_deploy.errors import UsageError
from imf_deploy.settings import LossSettings, StudySettings, TrainingSettings
from imf_deploy.settings.starts import STUDY
from imf_deploy.settings.study import MOST_TRIES, Thin, VariantName
from imf_deploy.study.methods import ABLATIONS, METHODS, candidates, imf_config
from imf_deploy.study.page import _listed
from imf_deploy.study.plan import check_data, check_study, choose, main_runs, trials, varied_runs
from imf_deploy.study.results import Trained
from imf_deploy.study.run import Run
from imf_deploy.study.selection import TITLES

BASE = TrainingSettings(epochs=3, batch_size=8, device="cpu")
CONFIG = StudySettings(
    students=("resnet8", "resnet14"),
    methods=("ce", "kd", "imf"),
    seeds=(0, 1),
    tries=2,
    thin=(Thin("resnet8x0.5", 5),),
    epochs=3,
    batch_size=8,
    device="cpu",
)


def result(run: Run, accuracy: float) -> Trained:
    return Trained(
        run.student, run.method, run.variant, run.train.seed, 3, {"plain": accuracy, "imf@1": 1.0}, {}, 1.0
    )


def test_every_setting_is_known_to_whom_it_is_for() -> None:
    shared = {field.name for field in fields(TrainingSettings)}
    own = {
        "ce": set(),
        "kd": {"beta", "temperature"},
        "fitnet": {"beta", "temperature", "hint"},
        "dkd": {"target", "others", "temperature"},
        "crd": {"contrast", "kd", "temperature"},
        "reviewkd": {"review"},
        "dist": {"classes", "images", "temperature"},
        "mlkd": {"labels", "instance", "relations"},
        "kd-ls": {"labels", "kd", "temperature"},
        "mlkd-ls": {"labels", "instance", "relations"},
        "imf": {field.name for field in fields(LossSettings)},
    }
    for name, method in METHODS.items():
        for settings in method.candidates:
            assert settings.keys() <= shared | own[name], name
            assert settings.keys() >= (own[name] if name != "imf" else set()), name
        different = {str(sorted(settings.items())) for settings in method.candidates}
        assert len(different) == len(method.candidates) == MOST_TRIES, "as many tries for each method"
    assert METHODS.keys() == TITLES.keys()


def test_rates_that_are_tried_are_multiples() -> None:
    for name, method in METHODS.items():
        assert candidates(name, StudySettings()) == method.candidates
        for whole, half in zip(method.candidates, candidates(name, StudySettings(lr=0.025)), strict=True):
            assert half == {**whole, **({"lr": whole["lr"] / 2} if "lr" in whole else {})}
    config = replace(CONFIG, lr=0.01)
    firsts = main_runs(config, choose(config, [], []))
    assert {run.train.lr for run in firsts} == {0.01}


def test_every_ablation_changes_the_training() -> None:
    base = METHODS["imf"].candidates[0]
    usual = imf_config("resnet8", BASE, base)
    changed = [imf_config("resnet8", BASE, {**base, **change}) for change in ABLATIONS.values()]
    assert all(config != usual for config in changed)
    assert len({str(config) for config in changed}) == len(ABLATIONS)


def test_imfs_settings_start_from_the_given_weights_and_are_as_many() -> None:
    for change in ({"alpha": 10.0}, {"alpha": 20.0, "beta": 40.0}, {"alpha": 0.0}, {"beta": 7.5}):
        config = replace(CONFIG, tries=4, **change)
        check_study(config)
        own = [run.settings for run in trials(config) if (run.student, run.method) == ("resnet8", "imf")]
        assert len({str(settings) for settings in own}) == 4
        wanted = {"alpha": LossSettings.alpha, "beta": LossSettings.beta} | change
        assert {name: own[0][name] for name in wanted} == wanted
        (first, *_), (chosen, *_) = (
            own,
            [
                r
                for r in main_runs(replace(config, tries=1), choose(replace(config, tries=1), [], []))
                if r.method == "imf"
            ],
        )
        assert chosen.settings == first
        others = [
            [r.settings for r in trials(each) if r.method != "imf"]
            for each in (config, replace(CONFIG, tries=4))
        ]
        assert others[0] == others[1], "alpha and beta are IMF's"


def test_a_variant_is_imf_s_own_in_the_whole_study() -> None:
    names = "imf@k of any size,feature distance raw"
    config = StudySettings(**vars(CONFIG) | {"tries": 4, "variant": names, "ablation_seeds": 1})
    check_study(config)
    chosen = choose(config, [], [])
    for run in [*trials(config), *main_runs(config, chosen), *varied_runs(config, chosen)]:
        if run.variant not in ("feature distance L2", "feature distance per channel"):
            changed = {"budget": 0.0, "distance": "raw"} if run.method == "imf" else {}
            assert {name: run.settings[name] for name in ("budget", "distance") if name in run.settings} == (
                changed
            )
    assert "distance raw" in _listed(chosen["resnet8", "imf"])
    assert "budget 0" in _listed(chosen["resnet8", "imf"])
    fixed = replace(config, variant=("no feature distance",))
    own = [run.settings for run in trials(fixed) if (run.student, run.method) == ("resnet8", "imf")]
    assert [settings["alpha"] for settings in own] == [0.0] * 3, "another alpha is not tried"
    assert len({str(settings) for settings in own}) == 3


def test_trials() -> None:
    runs = trials(CONFIG)
    assert len(runs) == 2 * 3 * 2
    assert {run.train.seed for run in runs} == {1000}
    assert not any(run.tested or run.variant for run in runs)
    assert [run.settings for run in runs if (run.student, run.method) == ("resnet14", "kd")] == list(
        METHODS["kd"].candidates[:2]
    )
    assert trials(replace(CONFIG, tries=1)) == []
    rates = [run.train.lr for run in trials(replace(CONFIG, methods=("ce",), tries=4))]
    assert rates == [0.05, 0.025, 0.1, 0.05] * 2


def test_the_best_on_validation_is_chosen_and_of_equals_the_first() -> None:
    config = replace(CONFIG, students=("resnet8",), tries=3)
    runs = trials(config)
    accuracy = {"ce": (0.5, 0.7, 0.6), "kd": (0.8, 0.8, 0.8), "imf": (0.0, 0.0, 0.1)}
    told = [result(run, accuracy[run.method][index % 3]) for index, run in enumerate(runs)]
    chosen = choose(config, runs, told)
    assert {method: settings for (_, method), settings in chosen.items()} == {
        "ce": METHODS["ce"].candidates[1],
        "kd": METHODS["kd"].candidates[0],
        "imf": METHODS["imf"].candidates[2],
    }
    assert choose(replace(config, tries=1), [], []) == {
        ("resnet8", name): METHODS[name].candidates[0] for name in ("ce", "kd", "imf")
    }


def test_blocks_that_are_named_are_imfs_alone(data: DataSet) -> None:
    config = replace(CONFIG, students=("resnet8",), student_taps=("layer1", "layer3"))
    check_study(config)
    check_data(config, data)
    runs = [*trials(config), *main_runs(config, choose(config, [], []))]
    for run in runs:
        assert run.settings.get("student_taps", ()) == (config.student_taps if run.method == "imf" else ())
    imf = next(run for run in runs if run.method == "imf")
    assert imf_config(imf.student, imf.train, imf.settings).student_taps == config.student_taps
    with pytest.raises(UsageError, match="no module 'layer9' to tap"):
        check_data(replace(config, student_taps=("layer9",)), data)


def test_given_weights_are_for_all_methods_but_not_for_thin_students() -> None:
    config = replace(CONFIG, students=("resnet8",), student_weights="start.pt")
    check_study(config)
    assert {run.settings["student_weights"] for run in trials(config)} == {"start.pt"}
    runs = main_runs(config, choose(config, [], []))
    thin = [run for run in runs if "student_weights" not in run.settings]
    assert {run.student for run in thin} == {"resnet8x0.5"}
    # What starts fresh trains at the rate of a fresh start.
    usual = replace(CONFIG, lr=STUDY.defaults["lr"], student_weights="start.pt", students=("resnet8",))
    thin = [run for run in main_runs(usual, choose(usual, [], [])) if run.student == "resnet8x0.5"]
    assert [run.settings["lr"] for run in thin] == pytest.approx([TrainingSettings.lr] * len(thin))
    assert thin
    assert "start.pt" not in _listed(runs[0].settings)
    with pytest.raises(UsageError, match="`student_weights` cannot be used"):
        check_study(replace(CONFIG, student_weights="start.pt"))


def test_main_runs() -> None:
    chosen = {**choose(CONFIG, [], []), ("resnet8", "kd"): METHODS["kd"].candidates[1]}
    runs = main_runs(CONFIG, chosen)
    assert len(runs) == 2 * (2 * 3 + 1)
    assert all(run.tested and not run.variant for run in runs)
    assert len({(run.student, run.method, run.train.seed) for run in runs}) == len(runs)
    thin = [run for run in runs if run.student == "resnet8x0.5"]
    assert [(run.method, run.train.seed, run.train.epochs) for run in thin] == [("kd", 0, 5), ("kd", 1, 5)]
    assert {str(run.settings) for run in thin} == {str(METHODS["kd"].candidates[1])}
    whole = [run for run in runs if run.student != "resnet8x0.5"]
    assert {run.train.epochs for run in whole} == {3}
    # The same seed means the same order and changes of pictures for every method.
    assert {run.train.seed for run in whole} == {0, 1}


def test_varied_runs() -> None:
    chosen = choose(CONFIG, [], [])
    assert varied_runs(CONFIG, chosen) == []
    runs = varied_runs(replace(CONFIG, ablation_seeds=1), chosen)
    assert len(runs) == 2 * len(ABLATIONS)
    assert {run.train.seed for run in runs} == {0}
    assert not any(run.tested for run in runs)
    assert {run.variant for run in runs} == set(ABLATIONS)
    no_feature = next(run for run in runs if run.variant == "no feature distance")
    assert no_feature.settings == {**chosen["resnet8", "imf"], "alpha": 0.0}
    assert set(get_args(VariantName)) == ABLATIONS.keys()
    named = varied_runs(
        StudySettings(
            **vars(CONFIG) | {"ablation_seeds": 2, "ablations": "temperature 2, imf@k of any size"}
        ),
        chosen,
    )
    assert [run.variant for run in named] == ["temperature 2", "imf@k of any size"] * 4
    cells = varied_runs(replace(CONFIG, grid=True), chosen)
    assert len(cells) == 2 * (16 + 1)
    assert [run.settings for run in cells if not run.variant] == [chosen[s, "imf"] for s in CONFIG.students]
    assert {run.train.seed for run in cells} == {1000}
    pairs = {(run.settings["alpha"], run.settings["beta"]) for run in cells if run.variant}
    assert pairs == {(a, b) for a in (10, 20, 30, 40) for b in (10, 20, 30, 40)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"students": ()}, "`students`"),
        ({"students": ("resnet8", "resnet8")}, "`students`"),
        ({"students": ("resnet8", "cifar:resnet8")}, "`students`"),  # their files have one name
        ({"thin": (Thin("resnet8", 9),)}, "`thin`"),
        ({"thin": (Thin("resnet8x0.5", 2), Thin("resnet8x0.5", 4))}, "`thin`"),
        ({"thin": "resnet8x0.5:0"}, "`thin` resnet8x0.5:0 has 0 epochs"),
        ({"methods": ()}, "`methods`"),
        ({"methods": ("kd", "simkd")}, "`methods` simkd is not known"),
        ({"methods": ("kd", "imf", "kd")}, "`methods`"),
        ({"methods": ("ce", "imf")}, "`thin` cannot be used. Thin students learn by KD"),
        ({"seeds": ()}, "`seeds`"),
        ({"seeds": (0, 1, 0)}, "`seeds`"),
        ({"seeds": (0, -1)}, "`seeds`"),
        ({"tries": 0}, "`tries`"),
        ({"tries": 5}, "`tries`"),
        ({"tuning_seed": 1}, "`tuning_seed`"),
        ({"tuning_seed": -1}, "`tuning_seed`"),
        ({"ablation_seeds": 3}, "`ablation_seeds`"),
        ({"ablation_seeds": -1}, "`ablation_seeds`"),
        ({"ablation_seeds": 1, "methods": ("kd",)}, "`ablation_seeds`"),
        ({"grid": True, "methods": ("kd",)}, "imf"),
        ({"ablations": ("temperature 2",)}, "`ablations` cannot be used. Give `ablation_seeds`"),
        ({"ablations": ("temperature 2",) * 2, "ablation_seeds": 1}, "`ablations` cannot be used. Name each"),
        ({"variant": ("temperature 2", "temperature 8")}, "`variant` cannot be used. Name ablations that"),
        ({"variant": ("temperature 2",), "methods": ("kd",)}, "`variant` cannot be used. Add imf"),
        ({"variant": "no alpha"}, "`variant` no alpha is not known. Use no loss on"),
        ({"alpha": 10.0, "methods": ("kd",)}, "`alpha` cannot be used. Add imf to `methods`"),
        ({"beta": 10.0, "methods": ("kd",)}, "`beta` cannot be used. Add imf to `methods`"),
        ({"alpha": -1.0}, "`alpha` -1"),
        ({"student_taps": ("layer1",)}, "`student_taps` cannot be used. Give one of `students`"),
        ({"student_taps": ("layer1",), "students": ("resnet8",), "methods": ("kd",)}, "Add imf to `methods`"),
        ({"epochs": 0}, "`epochs`"),
    ],
)
def test_what_no_study_can_use_is_refused(change: dict[str, Any], said: str) -> None:
    check_study(CONFIG)
    with pytest.raises(UsageError, match=re.escape(said)):
        check_study(replace(CONFIG, **change))


def test_unknown_students_are_refused_before_anything_is_trained(data: DataSet) -> None:
    check_data(CONFIG, data)
    for change in ({"students": ("resnet8", "resnet9")}, {"thin": (Thin("resnet9x0.5", 5),)}):
        with pytest.raises(UsageError, match="unknown model 'resnet9"):
            check_data(replace(CONFIG, **change), data)


@pytest.mark.parametrize("change", [{"tries": 2}, {"grid": True}, {"ablation_seeds": 1}])
def test_without_validation_images_nothing_is_chosen(data: DataSet, change: dict[str, Any]) -> None:
    blind = replace(data, validation=data.train.subset(torch.arange(0)))
    alone = replace(CONFIG, tries=1)
    check_data(alone, blind)
    with pytest.raises(UsageError, match="there are none"):
        check_data(replace(alone, **change), blind)
