"""From logits or a network to figures: metrics, confusion, calibration, Grad-CAM."""
