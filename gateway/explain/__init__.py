"""What would become of a request: every decision on its way, in order, each with its place in the document.

Pure, and independent of the compiler: it reads the resolved document, never what Envoy is sent. That a real Envoy does
the same is tested on generated gateways and requests (tests/compiler/test_explained_on_envoy.py).
"""

from gateway.explain.asked import Asked, Key, Password, Token
from gateway.explain.explaining import explain
from gateway.explain.explanation import Answer, Explanation, Possible, Step
from gateway.explain.question import Question
from gateway.explain.rendering import as_json, text
from gateway.explain.walk import Unexplained

__all__ = [
    "Answer",
    "Asked",
    "Explanation",
    "Key",
    "Password",
    "Possible",
    "Question",
    "Step",
    "Token",
    "Unexplained",
    "as_json",
    "explain",
    "text",
]
