"""Fixed: every teacher has its alpha, for every window. The default, and the published base of the study."""

from spkd.config import Section

# None: the shares are distill.alphas and no weights are computed.
MIXES = None


class Settings(Section):
    """Nothing to set: the weights are distill.alphas."""
