"""imf-deploy's own INT8 of a file with its record, by its defaults and with ``--effort best``."""

import sys
from dataclasses import replace
from pathlib import Path

from imf_deploy.artifact import load_artifact
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import reopen_data
from imf_deploy.records.files import OnnxFile
from imf_deploy.settings import QuantizeSettings

# The files are compared even if they are not faster than fp32.
SETTINGS = QuantizeSettings(rank=False, keep_int8=True)


def main(source: str, folder: str) -> None:
    """Write ``defaults.onnx`` and ``best.onnx``."""
    path, made = Path(source), Path(folder)
    data = reopen_data(load_artifact(path, OnnxFile).data_config or {})
    for name, settings in (("defaults", SETTINGS), ("best", replace(SETTINGS, effort="best"))):
        calibrate(path, data, settings, made, output=made / f"{name}.onnx", overwrite=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[3])
