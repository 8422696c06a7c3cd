"""Commands: flags become dataclasses, dataclasses go into library calls.

Nothing here imports Keras or TensorFlow before the flags are parsed and checked.
"""
