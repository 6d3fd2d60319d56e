"""The names of `hgraph.structure.patterns`, within easy reach."""

from hgraph.structure.patterns import *  # noqa: F403
from hgraph.structure.patterns import __all__  # noqa: F401
