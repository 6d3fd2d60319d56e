"""The names of `hgraph.structure.convert`, within easy reach."""

from hgraph.structure.convert import *  # noqa: F403
from hgraph.structure.convert import __all__  # noqa: F401
