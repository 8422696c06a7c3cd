"""etd_tf: make a small BERT out of a big one (Extract Then Distill)."""
