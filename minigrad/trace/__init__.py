"""Back-propagation one step at a time: `step` over the tape of any network, `algorithm1` line by line.

Rows of derivatives are ``g``, explicit matrices ``J``; what goes out of an operation is ``g J``. Nothing in the engine
looks at this package: it looks at the tape that a forward pass left, and changes nothing.
"""

from .algorithm import Algorithm1, Line, algorithm1
from .steps import Backward, Forward, Step, Trace, step

__all__ = ["Algorithm1", "Backward", "Forward", "Line", "Step", "Trace", "algorithm1", "step"]
