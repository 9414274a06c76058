"""The API toward apps: `sidecar.v1` over a Unix socket, and TCP where that is configured.

`server` takes calls by gRPC and makes each a `common.call.Call`. Each service of the schemas has a package: there
`service.py` answers its methods, `convert.py` and `encode.py` read and make its messages, and beside them is what lasts
from call to call, such as the topics. `backend` puts the services around a node and hands each of the node's news to
the one that takes it. `guard` says who calls and what they may; `service` and `common` are what the services share.
"""
