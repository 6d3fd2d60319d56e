"""Whole networks, as their papers publish them."""

from hgraph.models.axial_transformer import AxialTransformer
from hgraph.models.bprmf import BPRMF
from hgraph.models.cfkg import CFKG
from hgraph.models.cke import CKE
from hgraph.models.fm import FM
from hgraph.models.gat import GAT
from hgraph.models.gcmc import GCMC
from hgraph.models.gcn import GCN
from hgraph.models.han import HAN
from hgraph.models.hgnn import HGNN
from hgraph.models.hgnnp import HGNNP
from hgraph.models.hgt import HGT
from hgraph.models.kgat import KGAT
from hgraph.models.kgcn import KGCN
from hgraph.models.kge import ComplEx, DistMult, RotatE, TransE, TransR
from hgraph.models.lightgcn import LightGCN
from hgraph.models.mlp import MLP
from hgraph.models.nfm import NFM
from hgraph.models.published import load_published, published_tensors
from hgraph.models.rgcn import RGCN
from hgraph.models.ripplenet import RippleNet
from hgraph.models.two_tower import TwoTower
from hgraph.models.vit import ViT
from hgraph.models.yolov13 import YOLOv13

__all__ = [
    "BPRMF",
    "CFKG",
    "CKE",
    "FM",
    "GAT",
    "GCMC",
    "GCN",
    "HAN",
    "HGNN",
    "HGNNP",
    "HGT",
    "KGAT",
    "KGCN",
    "MLP",
    "NFM",
    "RGCN",
    "AxialTransformer",
    "ComplEx",
    "DistMult",
    "LightGCN",
    "RippleNet",
    "RotatE",
    "TransE",
    "TransR",
    "TwoTower",
    "ViT",
    "YOLOv13",
    "load_published",
    "published_tensors",
]
