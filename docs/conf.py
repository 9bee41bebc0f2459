"""Sphinx configuration: ``sphinx-build -W --keep-going -b html docs docs/_build/html``.

Neither the build nor a reader's browser needs a network: no inventories of other projects are
fetched, and formulas are MathML. The pages of results and
of commands are made while they are read, see ``_ext``.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
# The notebooks' kernels find the benchmarks, which hold what writes the pretrained weights.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

from captum_vae import __version__

project = "captum_vae"
author = "the captum_vae authors"
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "formulas",
    "docstrings",
    "commands",
    "results",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
# Notebooks are run when the manual is built, each in a folder of its own.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_output_stderr = "remove"
exclude_patterns = ["_build"]
nitpicky = False
# Quotes belong to commands and names here.
smartquotes = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autoclass_content = "both"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Fields of a tuple or dataclass are members as well: described once, beside their class.
napoleon_use_ivar = True
# Docstrings put names into single backticks, as Markdown does.
default_role = "code"

html_math_renderer = "mathml"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_title = f"captum_vae {release}"
html_show_sphinx = False
html_show_copyright = False
