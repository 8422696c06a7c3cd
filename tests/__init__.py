"""Tests of etd_tf; the tree mirrors the sources."""
