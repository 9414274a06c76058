module github.com/p2p-sidecar/sidecar/clients/go/examples/ingest

go 1.26.0

require (
	github.com/ncruces/go-sqlite3 v0.37.0
	github.com/p2p-sidecar/sidecar/clients/go v0.0.0
)

require (
	github.com/ncruces/go-sqlite3-wasm/v6 v6.5.35401 // indirect
	github.com/ncruces/julianday v1.0.0 // indirect
	golang.org/x/net v0.49.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260120221211-b8f7ae30c516 // indirect
	google.golang.org/grpc v1.80.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/p2p-sidecar/sidecar/clients/go => ../..
