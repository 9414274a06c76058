"""`sidecar.v1.DiscoveryService`: names and records in the DHT."""
