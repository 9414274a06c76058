"""The asyncio driver: turns sockets into the node machine's inputs, and its effects into bytes."""
