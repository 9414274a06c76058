"""What people and their tools look at: metrics, liveness and readiness over HTTP. Nothing runs unless configured."""
