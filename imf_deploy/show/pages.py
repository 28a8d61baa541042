"""Self-contained HTML pages from the templates of this package."""

import re
from typing import Any

from imf_deploy.errors import visible
from imf_deploy.show import format as show
from imf_deploy.show.palette import DARK, LIGHT, css_variables
from imf_deploy.tasks.classification import CLASSIFICATION

_UNUSUAL = re.compile(r"[^\n\t -~]+")


def render_template(name: str, **content: Any) -> str:
    """Return a page from a template of this package.

    All values are escaped. Invisible characters, such as those that change the direction of text, are shown
    as escapes, as on a terminal.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("imf_deploy.show"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        show=show, metric=CLASSIFICATION.metric, light=css_variables(LIGHT), dark=css_variables(DARK)
    )
    page = environment.get_template(name).render(content)
    return _UNUSUAL.sub(lambda match: visible(match[0]), page)
