"""Fine-tuning on GLUE and SQuAD, official metrics, similarity probe and latency."""
