"""Whole jobs: what the commands of `bin/` do, callable from Python.

A job strings the stages together (load, score, extract, distil, export, report) over a
run directory that can be interrupted at any moment and continued.
"""
