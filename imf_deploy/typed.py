"""The former place of :func:`imf_deploy.forms.read_typed`."""

from imf_deploy.forms import read_typed

__all__ = ["read_typed"]
