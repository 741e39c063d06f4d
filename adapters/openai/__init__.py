"""Any model behind an OpenAI-compatible `/chat/completions`: the caller's request goes on, the answer comes as events.

The SDK's own client costs about 100 µs a chunk and over a millisecond a request, so the room has a plain pooled
HTTP/1.1 client; it follows the SDK in its conventions (headers, which answers are worth retrying, error bodies).
"""

from adapters.openai.agent import OpenAIAdapter
from adapters.openai.options import UpstreamOptions

__all__ = ["OpenAIAdapter", "UpstreamOptions"]
