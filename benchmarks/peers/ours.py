"""imf-deploy's own INT8 of a file with its record, by its defaults."""

import sys
from pathlib import Path

from imf_deploy.artifact import load_artifact
from imf_deploy.calib.stage import calibrate
from imf_deploy.data import reopen_data
from imf_deploy.records.files import OnnxFile
from imf_deploy.settings import QuantizeSettings


def main(source: str, folder: str) -> None:
    """Write ``defaults.onnx``."""
    path, made = Path(source), Path(folder)
    data = reopen_data(load_artifact(path, OnnxFile).data_config or {})
    calibrate(path, data, QuantizeSettings(rank=False), made, output=made / "defaults.onnx", overwrite=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[3])
