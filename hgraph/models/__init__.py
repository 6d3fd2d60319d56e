"""Complete networks, as published in their papers; `hgraph.models.registry` lists them.

Networks are imported on first use, so that the command line can read the registry without torch.
"""

from typing import TYPE_CHECKING

from hgraph._lazy import lazy as _lazy
from hgraph.models.registry import MODELS as _MODELS

if TYPE_CHECKING:
    from hgraph.models.graph_classifier import GraphClassifier
    from hgraph.models.hypergraph.all_set import AllDeepSets, AllSetTransformer
    from hgraph.models.hypergraph.diffused import TFHNN, HyperND
    from hgraph.models.hypergraph.ed_hnn import EDHNN
    from hgraph.models.hypergraph.hgnn import HGNN
    from hgraph.models.hypergraph.hgnnp import HGNNP
    from hgraph.models.hypergraph.hypergcn import HyperGCN
    from hgraph.models.hypergraph.legcn import LEGCN
    from hgraph.models.hypergraph.phenomnn import PhenomNN
    from hgraph.models.hypergraph.sheaf import SheafHyperGNN
    from hgraph.models.hypergraph.unigcnii import UniGCNII
    from hgraph.models.node.appnp import APPNP
    from hgraph.models.node.gat import GAT
    from hgraph.models.node.gcn import GCN
    from hgraph.models.node.gcnii import GCNII
    from hgraph.models.node.gps import GPS
    from hgraph.models.node.h2gcn import H2GCN
    from hgraph.models.node.han import HAN
    from hgraph.models.node.hgt import HGT
    from hgraph.models.node.label_propagation import correct_and_smooth, propagate_labels
    from hgraph.models.node.linkx import LINKX
    from hgraph.models.node.mlp import MLP
    from hgraph.models.node.rgcn import RGCN
    from hgraph.models.recommend.bprmf import BPRMF
    from hgraph.models.recommend.cfkg import CFKG
    from hgraph.models.recommend.cke import CKE
    from hgraph.models.recommend.fm import FM
    from hgraph.models.recommend.gcmc import GCMC
    from hgraph.models.recommend.kgat import KGAT
    from hgraph.models.recommend.kgcn import KGCN
    from hgraph.models.recommend.lightgcn import LightGCN
    from hgraph.models.recommend.nfm import NFM
    from hgraph.models.recommend.ripplenet import RippleNet
    from hgraph.models.recommend.two_tower import TwoTower
    from hgraph.models.sequence.aaren import AarenEncoder
    from hgraph.models.sequence.positional import PositionalTransformer
    from hgraph.models.sequence.transnormer import TransNormer
    from hgraph.models.stack import Stack
    from hgraph.models.triples.kge import ComplEx, DistMult, RotatE, TransE, TransR
    from hgraph.models.vision.axial_transformer import AxialTransformer
    from hgraph.models.vision.published import load_published, published_tensors
    from hgraph.models.vision.vit import ViT
    from hgraph.models.vision.yolov13 import YOLOv13

__all__ = [
    "APPNP",
    "BPRMF",
    "CFKG",
    "CKE",
    "EDHNN",
    "FM",
    "GAT",
    "GCMC",
    "GCN",
    "GCNII",
    "GPS",
    "H2GCN",
    "HAN",
    "HGNN",
    "HGNNP",
    "HGT",
    "KGAT",
    "KGCN",
    "LEGCN",
    "LINKX",
    "MLP",
    "NFM",
    "RGCN",
    "TFHNN",
    "AarenEncoder",
    "AllDeepSets",
    "AllSetTransformer",
    "AxialTransformer",
    "ComplEx",
    "DistMult",
    "GraphClassifier",
    "HyperGCN",
    "HyperND",
    "LightGCN",
    "PhenomNN",
    "PositionalTransformer",
    "RippleNet",
    "RotatE",
    "SheafHyperGNN",
    "Stack",
    "TransE",
    "TransNormer",
    "TransR",
    "TwoTower",
    "UniGCNII",
    "ViT",
    "YOLOv13",
    "correct_and_smooth",
    "load_published",
    "propagate_labels",
    "published_tensors",
]

_FUNCTIONS = {name: "hgraph.models.node.label_propagation" for name in ("correct_and_smooth", "propagate_labels")}
_OTHERS = {"GraphClassifier": "hgraph.models.graph_classifier"}
_PUBLISHED = {name: "hgraph.models.vision.published" for name in ("load_published", "published_tensors")}

if not TYPE_CHECKING:  # type checkers read the imports above, and still find names that do not exist
    __getattr__, __dir__ = _lazy(
        __name__,
        {entry.class_name: entry.module for entry in _MODELS} | _PUBLISHED | _FUNCTIONS | _OTHERS,
        ("hypergraph", "node", "recommend", "sequence", "triples", "vision"),
    )
