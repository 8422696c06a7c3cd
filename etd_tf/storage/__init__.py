"""Files and directories: atomic writing, holding, names of models, wire formats."""
