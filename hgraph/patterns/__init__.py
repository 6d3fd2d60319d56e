"""Attention patterns as token graphs; combine them with ``|``, ``&``, ``-`` and ``@``.

>>> from hgraph import patterns
>>> longformer = patterns.sliding_window(1024, 65) | patterns.global_tokens(1024, [0])
>>> longformer
TokenGraph(1024 x 1024, 129854 edges, cpu)
>>> documents = patterns.causal(12) & patterns.packed([5, 7])
>>> documents.is_causal, documents.num_edges
(True, 43)

Patterns that depend on content are built inside a forward as lists of tiles (`topk_members`, `tree_topk`), for
`BlockAdjacency.trusted`; or tokens are laid out by content (`grouped`) and attend to runs of each other (`of_runs`).
"""

from hgraph.patterns.content import clusters, packed, padded, present, random, sink_band, top_k
from hgraph.patterns.distance import causal, dilated, full, longnet, none, power, prefix_lm, sliding_window, strided
from hgraph.patterns.nodes import beside, summaries, with_extra
from hgraph.patterns.partition import Partition, Regions
from hgraph.patterns.place import axial, block_local, global_tokens, hilbert_windows, landmark_blocks, sinks
from hgraph.patterns.select import from_boundaries, topk_members, tree_topk
from hgraph.patterns.slots import grouped, of_runs

__all__ = [
    "Partition",
    "Regions",
    "axial",
    "beside",
    "block_local",
    "causal",
    "clusters",
    "dilated",
    "from_boundaries",
    "full",
    "global_tokens",
    "grouped",
    "hilbert_windows",
    "landmark_blocks",
    "longnet",
    "none",
    "of_runs",
    "packed",
    "padded",
    "power",
    "prefix_lm",
    "present",
    "random",
    "sink_band",
    "sinks",
    "sliding_window",
    "strided",
    "summaries",
    "top_k",
    "topk_members",
    "tree_topk",
    "with_extra",
]
