"""The results of a study, as in its page and ``study.json``."""

from dataclasses import asdict, dataclass
from typing import Any

from imf_deploy.files import finite
from imf_deploy.settings import StudySettings
from imf_deploy.study.plan import Chosen
from imf_deploy.study.results import Network, Trained

SCHEMA = 1


@dataclass(frozen=True)
class Study:
    """Results of a study.

    Attributes:
        config: Settings of the study.
        chosen: Chosen settings by student and method.
        tried: The trainings that chose them; their test accuracies are empty.
        trained: The trainings that are compared, and IMF's variants.
        networks: Costs of each network.
        about: Data, teacher, versions and the command.
    """

    config: StudySettings
    chosen: Chosen
    tried: list[Trained]
    trained: list[Trained]
    networks: list[Network]
    about: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        chosen = [
            {"student": student, "method": method, "settings": dict(settings)}
            for (student, method), settings in self.chosen.items()
        ]
        content: dict[str, Any] = finite(
            {
                "schema": SCHEMA,
                "about": self.about,
                "config": asdict(self.config),
                "chosen": chosen,
                "tried": [asdict(each) for each in self.tried],
                "trained": [asdict(each) for each in self.trained],
                "networks": [asdict(each) for each in self.networks],
            }
        )
        return content
