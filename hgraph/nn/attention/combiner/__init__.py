"""Combiner: attention over tokens and summaries of regions."""
