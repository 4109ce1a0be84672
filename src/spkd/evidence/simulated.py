"""The words that mark what was made from simulated recordings, wherever its numbers or pictures are shown."""

ORIGIN = "simulated"  # data.origin of such a run
NOTE = "> **Simulated data.** The numbers show that the software works, nothing about people."
MARK = "[SIMULATED DATA]"
