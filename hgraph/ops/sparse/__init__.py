"""Operators over the rows of an `Adjacency`: sums, extrema, softmax, attention."""
