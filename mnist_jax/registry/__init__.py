"""Registered models: names, versions, lineage, model files, and predictions."""
