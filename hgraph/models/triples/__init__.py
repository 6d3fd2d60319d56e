"""Embeddings of knowledge graphs."""
