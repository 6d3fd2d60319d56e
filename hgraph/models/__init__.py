"""Whole networks, as their papers publish them."""

from hgraph.models.gat import GAT
from hgraph.models.gcn import GCN
from hgraph.models.hgnn import HGNN
from hgraph.models.hgnnp import HGNNP
from hgraph.models.mlp import MLP
from hgraph.models.published import load_published, published_tensors
from hgraph.models.yolov13 import YOLOv13

__all__ = ["GAT", "GCN", "HGNN", "HGNNP", "MLP", "YOLOv13", "load_published", "published_tensors"]
