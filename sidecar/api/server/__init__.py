"""How apps reach the services: places, TLS, the RPC library. Nothing outside of this package knows gRPC."""
