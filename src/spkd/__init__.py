"""Reproducible knowledge distillation for wearable sensing and detection.

Data flows one way: raw -> datasets -> windows -> views -> batches -> models -> taps -> losses -> training -> evidence.
"""

__version__ = "0.1.0"
