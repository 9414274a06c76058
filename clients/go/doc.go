// Package sidecar is the Go client of the p2p sidecar: a process beside an app that joins it to a libp2p mesh.
//
// [Connect] gives a [Client]. Its methods do what the sidecar can do:
//
//   - topics: [Client.Publish], [Client.PublishAsync], [Client.PublishMany], [Client.Subscribe],
//     [Client.Probe]
//   - messages to a peer: [Client.Send], [Client.SendAsync], [Client.SendMany], [Client.Receive]
//   - durable messages to a peer: [WithDurable], [Client.ReceiveDurable], [Client.WatchOutbox], [Client.Outbox],
//     [Client.Inbox]
//   - requests: [Client.Request], [Client.Serve]
//   - streams of bytes, as [net.Conn] and [net.Listener]: [Client.OpenStream], [Client.AcceptStreams]
//   - peers: [Client.Peers], [Client.Peer], [Client.WatchPeers], [Client.FindPeer], [Client.ClosestPeers], [Client.ConnectPeer]
//   - the DHT: [Client.Advertise], [Client.FindPeers], [Client.PutRecord], [Client.GetRecord]
//   - the node: [Client.Info], [Client.Ready], [Client.WatchReadiness], [Client.Statistics],
//     [Client.Configuration], [Client.WatchEvents], [Client.SetLogLevel]
//
// Contexts carry deadlines to the far end, and cancelling one cancels the work there. Subscriptions, served protocols and
// watches come back by themselves when the sidecar has restarted; what may have been missed is told by [Lagged]. Errors are
// of kinds to ask for with [errors.Is]; the tree of them stands at [ErrSidecar].
package sidecar

// Version is the version of this client.
const Version = "0.2.0"
