"""How weights and episodes travel: a small manifest, chunks of at most 512 KiB, and checks before anything is believed."""

from mechanic_rl_ros.transfer.manifest import EPISODE, MAX_CHUNK_SIZE, WEIGHTS, Chunk, Manifest, TransferError
from mechanic_rl_ros.transfer.receiver import Completed, Inbox
from mechanic_rl_ros.transfer.sender import Outbox

__all__ = ["EPISODE", "MAX_CHUNK_SIZE", "WEIGHTS", "Chunk", "Completed", "Inbox", "Manifest", "Outbox", "TransferError"]
