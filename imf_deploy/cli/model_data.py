"""The data of a deployable file."""

from __future__ import annotations

from imf_deploy.data import DataSet, open_data, reopen_data, settings_for
from imf_deploy.errors import UsageError
from imf_deploy.records.files import DeployableFile
from imf_deploy.settings.data import PlaceSettings


def model_data(artifact: DeployableFile, place: PlaceSettings) -> DataSet:
    """Open the data of a deployable file, as named by the options or else by its record.

    Raises:
        UsageError: neither names data.
    """
    known = artifact.data_config
    if known:
        return reopen_data(known, place.data, place.data_root, place.labels)
    if not place.data:
        raise UsageError(f"the record of {artifact.path} does not name its data", "Give `data`")
    return open_data(settings_for(artifact.preprocess, place.data, place.data_root, place.labels))
