"""Code generated from `protos/wire`: the messages that travel between nodes. Only `messages.py` files import it."""
