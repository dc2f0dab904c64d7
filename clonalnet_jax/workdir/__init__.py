"""Everything that lies in a workdir: small files, checkpoints, logits, progress."""
