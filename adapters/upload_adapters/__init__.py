"""Adapters of `upload_core`: everything that touches the world, one technology a module."""
