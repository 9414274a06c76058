"""What becomes of durable messages, and what apps make of them."""
