"""Methods that IMF is compared with, as tasks of the same training loop; our own implementations."""

from imf_deploy.study.rivals.crd import Crd
from imf_deploy.study.rivals.dist import Dist
from imf_deploy.study.rivals.dkd import Dkd
from imf_deploy.study.rivals.fitnet import FitNet
from imf_deploy.study.rivals.kd import CrossEntropy, Kd
from imf_deploy.study.rivals.logits import Mlkd, StandardisedKd, StandardisedMlkd
from imf_deploy.study.rivals.review import ReviewKd

RIVALS: dict[str, type[CrossEntropy]] = {
    "ce": CrossEntropy,
    "kd": Kd,
    "fitnet": FitNet,
    "crd": Crd,
    "reviewkd": ReviewKd,
    "dkd": Dkd,
    "dist": Dist,
    "mlkd": Mlkd,
    "kd-ls": StandardisedKd,
    "mlkd-ls": StandardisedMlkd,
}
"""Methods other than IMF, by the name that ``methods`` takes."""
