"""The names of `hgraph.structure.build`, within easy reach."""

from hgraph.structure.build import *  # noqa: F403
from hgraph.structure.build import __all__  # noqa: F401
