"""How weights and episodes travel: a small manifest, chunks of at most 512 KiB, and checks before anything is believed."""

from mechanic_rl_ros.transfer.manifest import MAX_CHUNK_SIZE, Chunk, Manifest, TransferError
from mechanic_rl_ros.transfer.receiver import Completed, Inbox
from mechanic_rl_ros.transfer.sender import Outbox

__all__ = ["MAX_CHUNK_SIZE", "Chunk", "Completed", "Inbox", "Manifest", "Outbox", "TransferError"]
