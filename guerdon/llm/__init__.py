"""Language models: one protocol, many ways to answer it."""

from guerdon.llm.client import (
    Answer,
    Chat,
    Message,
    ModelError,
    Request,
    connect,
)

__all__ = ["Answer", "Chat", "Message", "ModelError", "Request", "connect"]
